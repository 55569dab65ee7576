"""A loss whose parameter gradients were collected piece by piece, as one node of autograd."""

from collections.abc import Sequence

import torch
from torch import Tensor


class GradientCollector:
    """Sums gradients of partial losses, then poses as their total for one ordinary ``backward``.

    A partial loss is differentiated before the next one is computed, so that its graph is gone by
    then; ``add`` takes its value and its gradients. ``total`` returns the sum of the losses, whose
    backward hands ``grad_output × collected`` to the parameters. So gradient accumulation,
    DistributedDataParallel and loss scaling work as with any loss, and a parameter that no partial
    loss reaches gets a zero gradient, not none, which DistributedDataParallel would wait for.

    Args:
        parameters: tensors that require gradients.
        loss_scale: a 0-dim tensor that outlives this object, for float16 only. Partial losses are
            to be multiplied by ``scale``, its value, while they are differentiated, so that their
            gradients are not rounded to zero; the collected ones are divided by it again. The
            backward of ``total`` overwrites it with the ``grad_output`` that it sees, that is the
            scale of the run's loss scaler: one that meets infinite gradients and lowers its scale
            lowers this one too, an iteration later.
    """

    def __init__(self, parameters: Sequence[Tensor], loss_scale: Tensor | None = None):
        self.parameters = list(parameters)
        self.loss_scale = loss_scale
        self.scale = 1.0 if loss_scale is None else loss_scale.clone()
        self.gradients: list[Tensor] | None = None
        self.loss: Tensor | float = 0.0

    @torch.no_grad()  # before torch 2.6, zeros that autograd fills in require gradients
    def add(self, loss: Tensor, gradients: Sequence[Tensor]) -> None:
        """Add a partial loss, 0-dim, and the gradients of ``scale × loss``; takes hold of them."""
        if self.gradients is None:
            self.gradients = list(gradients)
        else:
            torch._foreach_add_(self.gradients, gradients)
        self.loss = self.loss + loss.detach()

    def differentiate(self, loss: Tensor) -> None:
        """Differentiate a 0-dim partial loss, add it, and let go of its graph."""
        gradients = torch.autograd.grad(
            self.scale * loss, self.parameters, allow_unused=True, materialize_grads=True
        )
        self.add(loss, gradients)

    def total(self) -> Tensor:
        """The sum of the added losses, 0-dim, differentiable once."""
        return _Total.apply(
            self.loss, self.gradients, self.scale, self.loss_scale, *self.parameters
        )


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
        if ctx.loss_scale is not None:
            factor = grad_output / ctx.scale
            ctx.loss_scale.copy_(grad_output)
        torch._foreach_mul_(gradients, factor)  # in place: no second model-sized buffer
        return (None, None, None, None, *gradients)
