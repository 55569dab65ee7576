"""A loss whose parameter gradients were collected piece by piece, as one node of autograd."""

from collections.abc import Sequence

import torch
from torch import Tensor


class GradientCollector:
    """Sums gradients of partial losses, then poses as their total for one ordinary ``backward``.

    ``add`` differentiates a partial loss at once and lets go of its graph; ``total`` returns the
    sum of the losses, whose backward hands ``grad_output × collected`` to the parameters. So
    gradient accumulation, DistributedDataParallel and loss scaling work as with any loss, and a
    parameter that no partial loss reaches gets a zero gradient, not none, which
    DistributedDataParallel would wait for.

    Args:
        parameters: tensors that require gradients.
        loss_scale: a 0-dim tensor that outlives this object, for float16 only. The partial losses
            are multiplied by it while they are differentiated, so that their gradients are not
            rounded to zero, and the collected gradients are divided by it again. ``total``'s
            backward overwrites it with the ``grad_output`` that it sees, that is the scale of the
            run's loss scaler: one that meets infinite gradients and lowers its scale lowers this
            one too, an iteration later.
    """

    def __init__(self, parameters: Sequence[Tensor], loss_scale: Tensor | None = None):
        self.parameters = list(parameters)
        self.loss_scale = loss_scale
        self.scale = None if loss_scale is None else loss_scale.clone()
        self.gradients: list[Tensor | None] = [None] * len(self.parameters)
        self.loss: Tensor | float = 0.0

    def add(self, loss: Tensor) -> None:
        """Differentiate a 0-dim ``loss`` and free its graph."""
        scaled = loss if self.scale is None else loss * self.scale
        new = torch.autograd.grad(scaled, self.parameters, allow_unused=True)
        old = self.gradients
        self.gradients = [a if b is None else b if a is None else a.add_(b)
                          for a, b in zip(old, new, strict=True)]  # fmt: skip
        self.loss = self.loss + loss.detach()

    def total(self) -> Tensor:
        """The sum of the added losses, 0-dim, differentiable once."""
        gradients = [
            torch.zeros_like(p) if g is None else g
            for p, g in zip(self.parameters, self.gradients, strict=True)
        ]
        return _Total.apply(self.loss, gradients, self.scale, self.loss_scale, *self.parameters)


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx, loss, gradients, scale, loss_scale, *parameters):
        ctx.gradients, ctx.scale, ctx.loss_scale = gradients, scale, loss_scale
        return loss.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_output):
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            raise RuntimeError('the collected gradients of this loss were handed out already')
        factor = grad_output
        if ctx.scale is not None:
            factor = grad_output / ctx.scale
            ctx.loss_scale.copy_(grad_output)
        torch._foreach_mul_(gradients, factor)  # in place: no second model-sized buffer
        return (None, None, None, None, *gradients)
