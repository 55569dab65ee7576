"""Many partial losses, each differentiated on its own, against autograd on their sum."""

import pytest
import torch

from mmebm.autograd import GradientCollector, differentiate

NOTHING = torch.zeros(1)  # the x of a partial loss that has none


def partial_loss(loss):
    return lambda x: dict(loss=loss())


def make():
    torch.manual_seed(0)
    a = torch.randn(3, dtype=torch.float64, requires_grad=True)
    b = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    unreached = torch.randn(4, dtype=torch.float64, requires_grad=True)
    losses = (lambda: (b @ a).square().sum(), lambda: a.exp().sum(), lambda: (b**3).mean())
    return [a, b, unreached], losses


def test_equals_the_gradient_of_the_sum():
    parameters, losses = make()
    collector = GradientCollector(parameters)
    for loss in losses:
        collector.add(partial_loss(loss), NOTHING)
    total = collector.total()
    expected = sum(loss() for loss in losses)
    torch.testing.assert_close(total, expected)
    (2.5 * total).backward()  # loss scaling and gradient accumulation multiply the loss
    reference = torch.autograd.grad(2.5 * expected, parameters[:2])
    torch.testing.assert_close(parameters[0].grad, reference[0])
    torch.testing.assert_close(parameters[1].grad, reference[1])
    assert torch.equal(parameters[2].grad, torch.zeros(4, dtype=torch.float64))  # not reached


def test_a_second_backward_is_an_error():
    parameters, losses = make()
    collector = GradientCollector(parameters)
    collector.add(partial_loss(losses[0]), NOTHING)
    total = collector.total()
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match='handed out already'):
        total.backward()


def test_loss_scale_follows_the_run_and_cancels():
    parameters, losses = make()
    loss_scale = torch.tensor(8.0, dtype=torch.float64)
    reference = torch.autograd.grad(losses[1](), parameters[0])[0]
    for scaler in (1024.0, 512.0):
        parameters[0].grad = None
        collector = GradientCollector(parameters, loss_scale)
        collector.add(partial_loss(losses[1]), NOTHING)
        (scaler * collector.total()).backward()
        torch.testing.assert_close(parameters[0].grad, scaler * reference)
        assert loss_scale.item() == scaler


@pytest.mark.parametrize('weight', [0.0, float('inf'), float('nan')])
def test_a_useless_loss_scale_is_not_stored(weight):
    parameters, losses = make()
    loss_scale = torch.tensor(8.0, dtype=torch.float64)
    for factor, expected in ((weight, None), (16.0, 16.0)):
        parameters[0].grad = None
        collector = GradientCollector(parameters, loss_scale)
        collector.add(partial_loss(losses[1]), NOTHING)
        (factor * collector.total()).backward()
        assert loss_scale == (8.0 if expected is None else expected)


def differentiate_at_once(function, x, parameters, totals, scale):
    """As a compiled step does."""
    term = function(x)
    gradients = torch.autograd.grad(
        scale * term['loss'], parameters, allow_unused=True, materialize_grads=True
    )
    torch._foreach_add_(totals, gradients)
    return dict(loss=term['loss'].detach())


@pytest.mark.parametrize('method', [differentiate, differentiate_at_once])
def test_hooks_of_parameters_act_once(method):
    (a, b, _), losses = make()
    expected = torch.autograd.grad(sum(loss() for loss in losses), [a, b])
    a.register_hook(lambda gradient: gradient * 0.1)
    collector = GradientCollector([a, b], differentiate=method)
    for loss in losses:
        collector.add(partial_loss(loss), NOTHING)
    collector.total().backward()
    torch.testing.assert_close(a.grad, 0.1 * expected[0])
    torch.testing.assert_close(b.grad, expected[1])


def test_loss_scale_keeps_half_precision_gradients_from_vanishing():
    """A float16 gradient of 1e-9 rounds to zero; with the scale it survives."""
    weight = torch.ones((), requires_grad=True)

    def loss():
        return (weight.half() * 1).float() * 1e-9

    for loss_scale, expected in ((None, 0.0), (torch.tensor(2.0**16), 1e-9)):
        weight.grad = None
        collector = GradientCollector([weight], loss_scale)
        collector.add(partial_loss(loss), NOTHING)
        collector.total().backward()
        assert weight.grad.item() == pytest.approx(expected, rel=1e-2)


def test_gradients_are_added_to_totals_in_place_and_nothing_stays_hooked():
    parameters, losses = make()
    totals = [torch.ones_like(p) for p in parameters]
    differentiate(partial_loss(losses[0]), NOTHING, parameters, totals)
    a, b = torch.autograd.grad(losses[0](), parameters[:2])
    torch.testing.assert_close(totals[0], 1 + a)
    torch.testing.assert_close(totals[1], 1 + b)
    assert torch.equal(totals[2], torch.ones_like(totals[2]))
    losses[0]().backward()
    torch.testing.assert_close(parameters[0].grad, a)  # and not the hook's zeros
    torch.testing.assert_close(totals[0], 1 + a)


def test_what_the_function_returns_comes_back_without_its_graph():
    (a, *_), _ = make()
    x = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    collector = GradientCollector([a])
    term = collector.add(lambda x: dict(loss=(a * x).sum(), product=a * x), x)
    torch.testing.assert_close(term['product'], a.detach() * x)
    assert not any(value.requires_grad for value in term.values())
    collector.total().backward()
    torch.testing.assert_close(a.grad, x)
