"""Linear layers on a CPU, computed by oneDNN.

PyTorch gives products in float32 to MKL, those in bfloat16 to oneDNN, and has no switch. On an AMD
processor a compiled step takes a quarter less time with oneDNN's (docs/performance.md). Products
that sum over the batch, the gradients of weights, were no faster, and stay with MKL.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

_AVAILABLE = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, '_linear_pointwise')


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """PyTorch's function of this name, differentiable any number of times.

    oneDNN computes it in float32 on a CPU; everything else stays with PyTorch. For compiled graphs:
    outside, autograd would also compute the gradients of weights, which the descent does not need.
    """
    if (
        _AVAILABLE
        and input.dim() > 1
        and weight.dim() == 2  # PyTorch also takes a single row, without its dimension
        and input.device.type == 'cpu'
        and input.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled('cpu')
    ):
        return product(input.flatten(0, -2), weight, bias).unflatten(0, input.shape[:-1])
    return F.linear(input, weight, bias)


@torch.library.custom_op('mmebm::product', mutates_args=())
def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``x weightᵀ + bias`` of float32 ``(B, C)``, ``(D, C)`` and ``(D,)`` on a CPU, by oneDNN."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, 'none', [], '')


@product.register_fake
def _(x, weight, bias):
    return x.new_empty(x.shape[0], weight.shape[0])


def _save(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:2])


def _backward(ctx, g):
    x, weight = ctx.saved_tensors
    of_x, of_weight, of_bias = ctx.needs_input_grad
    return (
        product(g, weight.mT, None) if of_x else None,
        g.mT @ x if of_weight else None,
        g.sum(0) if of_bias else None,
    )


product.register_autograd(_backward, setup_context=_save)
