"""Descent against closed forms and autograd's own checks, in float64."""

import pytest
import torch

from mmebm import descend, descent_step, energy_gradient


def half_square(x):
    """E = ½ |x|²: the gradient is x, so a step multiplies x by 1 − α."""
    return x.flatten(1).square().sum(1) / 2


@pytest.fixture
def x():
    return torch.randn(3, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_chain_on_a_quadratic_has_its_closed_form(x):
    chain = descend(half_square, x, step_size=0.1, num_steps=5)
    assert chain.shape == (6, 3, 2, 4)
    for n in range(6):
        torch.testing.assert_close(chain[n], 0.9**n * x)


def test_first_entry_is_the_input_and_no_graph_is_kept(x):
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    chain = descend(lambda x: weight * half_square(x), x, 0.1, 2)
    assert torch.equal(chain[0], x)
    assert not chain.requires_grad
    assert weight.grad is None
    assert descend(half_square, x, 0.1, 0).shape == (1, 3, 2, 4)


def test_energy_gradient_scales_inside(x):
    energy, gradient = energy_gradient(half_square, x, scale=3.0)
    torch.testing.assert_close(energy, half_square(x))
    torch.testing.assert_close(gradient, 3 * x)
    assert not gradient.requires_grad
    assert not x.requires_grad  # the input stays as it is


def test_gradcheck_of_a_step_with_respect_to_parameters_and_step_size(x):
    """The second derivative: autograd.gradcheck compares with finite differences."""
    torch.manual_seed(0)
    first = torch.randn(5, 8, dtype=torch.float64, requires_grad=True)
    second = torch.randn(5, dtype=torch.float64, requires_grad=True)
    step_size = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)

    def step(first, second, step_size):
        def energy(x):
            return torch.tanh(x.flatten(1) @ first.T) @ second

        return descent_step(energy, x, step_size, create_graph=True)[0]

    assert torch.autograd.gradcheck(step, (first, second, step_size))


def test_stop_gradient_between_steps(x):
    """A step differentiates through its own gradient only, not through the x it started from."""
    weight = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)

    def energy(x):
        return weight * half_square(x)

    first, _ = descent_step(energy, x, 1.0, create_graph=True)  # (1 − w) x
    second, _ = descent_step(energy, first, 1.0, create_graph=True)  # (1 − w) sg((1 − w) x)
    (gradient,) = torch.autograd.grad(second.sum(), weight)
    torch.testing.assert_close(gradient, -(0.5 * x).sum())  # without sg it would be twice that


def test_energy_of_a_wrong_shape_is_refused(x):
    with pytest.raises(ValueError, match=r'\(3, 1\)'):
        energy_gradient(lambda x: half_square(x)[:, None], x)
    with pytest.raises(ValueError, match=r'got \(\)'):
        energy_gradient(lambda x: half_square(x).sum(), x)
