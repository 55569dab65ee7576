"""A loss whose parameter gradients were collected piece by piece, as one node of autograd."""

from collections.abc import Sequence
from functools import partial

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

    def add(self, loss: Tensor, gradients: Sequence[Tensor]) -> None:
        """Add a partial loss, 0-dim, whose gradients were added to ``gradients``."""
        if self.gradients is None:  # from here on they are changed in place
            gradients = _without_shared_memory(gradients)
        self.gradients = list(gradients)
        self.loss = self.loss + loss.detach()

    def differentiate(self, loss: Tensor) -> None:
        """Differentiate a 0-dim partial loss, add it, and let go of its graph."""
        self.add(loss, added_gradients(self.scale * loss, self.parameters, self.gradients))

    def total(self) -> Tensor:
        """The sum of the added losses, 0-dim, differentiable once."""
        return _Total.apply(
            self.loss, self.gradients, self.scale, self.loss_scale, *self.parameters
        )


def added_gradients(
    loss: Tensor, parameters: Sequence[Tensor], totals: list[Tensor] | None = None
) -> Sequence[Tensor]:
    """Differentiate a loss, and add each gradient to its total as soon as autograd has it.

    So there is never a second set of gradients as large as the network.

    Args:
        loss: 0-dim; its graph is freed.
        parameters: leaves; one that has no influence counts as zero.
        totals: of the shapes of the parameters, changed in place; by default nothing is added to.

    Returns:
        The totals.
    """
    if totals is None:
        return torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    hooks = [p.register_hook(partial(_take, t)) for p, t in zip(parameters, totals, strict=True)]
    try:
        torch.autograd.grad(loss, parameters, allow_unused=True)
    finally:
        for hook in hooks:
            hook.remove()
    return totals


def _take(total: Tensor, gradient: Tensor | None) -> Tensor | None:
    if gradient is None:  # no influence
        return None
    total.add_(gradient)
    return gradient.new_zeros(()).expand_as(gradient)  # without memory, in place of the gradient


def _without_shared_memory(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Copies of those that lie in the memory of an earlier one, or more than once in their own.

    Autograd hands such out: for one image, a class token's gradient is a part of the position
    embedding's, since the sum over the batch is a view there.
    """
    seen, found = set(), []
    for tensor in tensors:
        memory = tensor.untyped_storage()
        if memory._cdata in seen or memory.nbytes() < tensor.nbytes:
            tensor = tensor.clone()
        seen.add(memory._cdata)
        found.append(tensor)
    return found


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
