"""Shared by tests of derivatives."""

import torch


class OnceOnly(torch.autograd.Function):
    """Doubles; marked as without a second derivative."""

    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_output):
        return grad_output * 2


def derivatives(function, tensors, **options):
    """Output, first derivatives, and the derivatives of a function of those."""
    out = function(*tensors, **options)
    first = torch.autograd.grad(out.pow(2).sum(), tensors, create_graph=True)
    second = torch.autograd.grad(sum(x.sin().sum() for x in first), tensors)
    return out, *first, *second


def assert_gradients_equal(model, gradients, share=0.7):
    """Compare each parameter's ``grad`` with the reference's, None there meaning no influence.

    More than a share of them must have some.
    """
    reached = 0
    for key, expected in gradients.items():
        gradient = model.get_parameter(key).grad
        if expected is None:
            expected = torch.zeros_like(gradient)
        torch.testing.assert_close(
            gradient, expected, rtol=1e-7, atol=1e-12, msg=lambda m, k=key: f'{k}: {m}'
        )
        reached += bool(expected.abs().sum() > 0)
    assert reached > share * len(gradients)
