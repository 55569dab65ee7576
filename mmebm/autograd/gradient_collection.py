"""Many partial losses, each differentiated on its own, and one ``backward`` for their sum."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

Function = Callable[[Tensor], tuple[Tensor, tuple[Tensor, ...]]]
"""Maps x to a partial loss, 0-dim, and to other tensors that the caller wants."""

Differentiated = tuple[Tensor, tuple[Tensor, ...], Sequence[Tensor]]


def differentiate(
    function: Function,
    x: Tensor,
    parameters: Sequence[Tensor],
    scale: Tensor | float = 1.0,
    totals: list[Tensor] | None = None,
) -> Differentiated:
    """Compute a partial loss and its parameter gradients; its graph is freed.

    Args:
        function: maps x to the partial loss and to other tensors.
        x: ``(B, ...)``.
        parameters: leaves; one that has no influence gets zeros.
        scale: a factor of the loss while it is differentiated.
        totals: gradients of earlier partial losses, to which these are added in place.

    Returns:
        The loss and the other tensors, without graph, and the gradients.
    """
    loss, others = function(x)
    gradients = added_gradients(scale * loss, parameters, totals)
    return loss.detach(), tuple(other.detach() for other in others), gradients


class GradientCollector:
    """Sum the gradients of partial losses, and hand them out in one ordinary ``backward``.

    Each partial loss is differentiated before the next one is computed, so that only one graph
    exists at a time. :meth:`total` returns the sum of the losses; its backward passes
    ``grad_output × collected`` on to the parameters. So gradient accumulation,
    DistributedDataParallel and loss scaling work as with any loss. A parameter that no partial loss
    reaches gets a zero gradient instead of None, which DistributedDataParallel would wait for.

    Args:
        parameters: tensors that require gradients.
        loss_scale: for float16 only, a 0-dim tensor that outlives this object. Partial losses are
            multiplied by its value while they are differentiated, so that their gradients do not
            underflow; the collected ones are divided by it again. The backward of ``total``
            overwrites it with the ``grad_output`` it receives, which is the scale of the run's loss
            scaler. So if the scaler meets infinite gradients and lowers its scale, this one follows
            an iteration later.
        differentiate: :func:`differentiate`, or a compiled form of it.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        loss_scale: Tensor | None = None,
        differentiate: Callable[..., Differentiated] = differentiate,
    ):
        self.parameters = list(parameters)
        self.loss_scale = loss_scale
        self.scale = 1.0 if loss_scale is None else loss_scale.clone()
        self.gradients: list[Tensor] | None = None
        self.loss: Tensor | float = 0.0
        self._differentiate = differentiate

    def differentiate(self, function: Function, x: Tensor) -> tuple[Tensor, ...]:
        """Add the partial loss ``function(x)`` and its gradients.

        Returns:
            The other tensors of the function, without graph.
        """
        loss, others, gradients = self._differentiate(
            function, x, self.parameters, self.scale, self.gradients
        )
        if self.gradients is None:  # from here on they are changed in place
            gradients = _without_shared_memory(gradients)
        self.gradients = list(gradients)
        self.loss = self.loss + loss
        return others

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
        totals: of the shapes of the parameters, changed in place; None starts from zero.

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

    Autograd returns such tensors: for one image, a class token's gradient is a part of the position
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
