"""Many partial losses, each differentiated on its own, and one ``backward`` for their sum."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

Term = dict[str, Tensor]  # a partial loss, 0-dim, called loss, and what was computed with it
Function = Callable[[Tensor], Term]


def differentiate(
    function: Function,
    x: Tensor,
    parameters: Sequence[Tensor],
    totals: Sequence[Tensor],
    scale: Tensor | float = 1.0,
) -> Term:
    """Compute a partial loss and add its parameter gradients to totals; its graph is freed.

    Each gradient is added as soon as autograd has it, so there is never a second set of them.

    Args:
        function: maps x to the partial loss and what else is wanted.
        x: ``(B, ...)``.
        parameters: leaves that require gradients; one without influence counts as zero.
        totals: of the shapes of the parameters, changed in place.
        scale: a factor of the loss while it is differentiated.
    """
    term = function(x)
    hooks = [
        parameter.register_hook(partial(_add_to, total))
        for parameter, total in zip(parameters, totals, strict=True)
    ]
    try:
        torch.autograd.grad(scale * term['loss'], parameters, allow_unused=True)
    finally:
        for hook in hooks:
            hook.remove()
    return without_graph(term)


def without_graph(term: Term) -> Term:
    """The same values, detached."""
    return {name: value.detach() for name, value in term.items()}


class GradientCollector:
    """Sum the gradients of partial losses, and hand them out in one ordinary ``backward``.

    Each partial loss is differentiated before the next one is computed, so that only one graph
    exists at a time. The backward of :meth:`total` passes ``grad_output × collected`` on to the
    parameters, so gradient accumulation, DistributedDataParallel and loss scaling work as with any
    loss. A parameter that no partial loss reaches gets zeros instead of None, which
    DistributedDataParallel would wait for.

    Args:
        parameters: leaves that require gradients.
        loss_scale: for float16 only, a 0-dim tensor that outlives this object: a factor of the
            partial losses while they are differentiated, so that gradients do not underflow. The
            backward of the total overwrites it with its ``grad_output``, the scale of the run's
            loss scaler, which it so follows an iteration later.
        differentiate: :func:`differentiate`, or a compiled form of it.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        loss_scale: Tensor | None = None,
        differentiate: Callable[..., Term] = differentiate,
    ):
        self.parameters = list(parameters)
        self.totals = [torch.zeros_like(p) for p in self.parameters]
        self.loss: Tensor | float = 0.0
        self.loss_scale = loss_scale
        self.scale = 1.0 if loss_scale is None else loss_scale.clone()
        self._differentiate = differentiate

    def add(self, function: Function, x: Tensor) -> Term:
        """Add the partial loss ``function(x)['loss']`` and its gradients; returns the values."""
        with _without_hooks(self.parameters):  # they act once, in the backward of the total
            term = self._differentiate(function, x, self.parameters, self.totals, self.scale)
        self.loss = self.loss + term['loss']
        return term

    def total(self) -> Tensor:
        """The sum of the partial losses, 0-dim, differentiable once."""
        return _Total.apply(self.loss, self.totals, self.scale, self.loss_scale, *self.parameters)


@contextmanager
def _without_hooks(parameters: Sequence[Tensor]) -> Iterator[None]:
    hooks = [parameter._backward_hooks for parameter in parameters]
    try:
        for parameter in parameters:
            parameter._backward_hooks = None
        yield
    finally:
        for parameter, own in zip(parameters, hooks, strict=True):
            parameter._backward_hooks = own


def _add_to(total: Tensor, gradient: Tensor | None) -> Tensor | None:
    if gradient is None:  # no influence
        return None
    total.add_(gradient)
    return gradient.new_zeros(()).expand_as(gradient)  # without memory, in place of the gradient


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx, loss, totals, scale, loss_scale, *parameters):
        ctx.totals, ctx.scale, ctx.loss_scale = totals, scale, loss_scale
        return loss.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_output):
        totals, ctx.totals = ctx.totals, None
        if totals is None:
            raise RuntimeError('the collected gradients of this loss were handed out already')
        factor = grad_output
        if ctx.loss_scale is not None:
            factor = grad_output / ctx.scale
            usable = grad_output.isfinite() & (grad_output != 0)  # not of a loss with weight 0
            ctx.loss_scale.copy_(torch.where(usable, grad_output, ctx.loss_scale))
        torch._foreach_mul_(totals, factor)  # in place: no second set of them
        return (None, None, None, None, *totals)
