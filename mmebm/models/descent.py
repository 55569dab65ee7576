"""Descent on an energy, as pure functions (equations 4 and 5 of the paper).

They take any ``energy(x) -> (B,)``: a network, a closed form, a sum of both. ``x`` may have any
shape ``(B, ...)``: pixels in restoration, position embeddings in sorting.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Energy = Callable[[Tensor], Tensor]


def energy_gradient(
    energy: Energy, x: Tensor, scale: Tensor | float = 1.0, create_graph: bool = False
) -> tuple[Tensor, Tensor]:
    """Energy of every sample and the gradient ``∇ₓ(scale · E(x))``.

    The scale is inside the derivative. The result is the same as with the scale outside, but in
    half precision the gradients stay in range: ``∇ₓE`` alone is of the order of 1 / pixels.

    Args:
        energy: maps x ``(B, ...)`` to energies ``(B,)``; a sample's energy must not depend on the
            other samples, or their gradients mix.
        x: ``(B, ...)``, floating point.
        scale: a factor, usually the step size α.
        create_graph: keep the graph, to differentiate the gradient again.

    Returns:
        Energies ``(B,)`` and the gradient, of the shape and type of x.

    Raises:
        ValueError: the energy is not of shape ``(B,)``.
    """
    with torch.enable_grad():
        if not torch.compiler.is_compiling():  # see CompiledDifferentiation
            x = x.detach().requires_grad_()
        e = energy(x)  # (B,)
        if e.shape != x.shape[:1]:
            raise ValueError(
                f'an energy maps (B, ...) to (B,): got {tuple(e.shape)} for an input of shape '
                f'{tuple(x.shape)}'
            )
        e = e.to(torch.promote_types(e.dtype, torch.float32))  # half precision ends here
        (gradient,) = torch.autograd.grad((scale * e).sum(), x, create_graph=create_graph)
    return e, gradient


def descent_step(
    energy: Energy, x: Tensor, step_size: Tensor | float, create_graph: bool = False
) -> tuple[Tensor, Tensor]:
    """One step ``x − ∇ₓ(α E(x))`` of equation 5, with x behind a stop-gradient.

    Args:
        energy: maps x ``(B, ...)`` to energies ``(B,)``.
        x: ``(B, ...)``, floating point.
        step_size: α, positive.
        create_graph: keep the graph, so that the result can be differentiated with respect to the
            parameters of the energy and to α.

    Returns:
        The next x, and the energies ``(B,)`` of the given one.
    """
    e, gradient = energy_gradient(energy, x, step_size, create_graph)
    return x.detach() - gradient, e


def descend(energy: Energy, x: Tensor, step_size: Tensor | float, num_steps: int) -> Tensor:
    """The whole chain ``x⁰, ..., x^N``, ``(N + 1, B, ...)``, by N ≥ 0 steps; no graph is kept.

    Works under ``torch.no_grad()`` and ``torch.inference_mode()`` too, unless the parameters of the
    energy were created inside the latter. Arguments are those of :func:`descent_step`.
    """
    with torch.inference_mode(False):
        chain = [_without_inference_mode(x).detach()]
        step_size = _without_inference_mode(step_size)
        for _ in range(num_steps):
            x, _ = descent_step(energy, chain[-1], step_size)
            chain.append(x.detach())
        return torch.stack(chain)


def _without_inference_mode(x: Tensor | float) -> Tensor | float:
    # autograd refuses tensors made under torch.inference_mode(), but not their copies
    return x.clone() if isinstance(x, Tensor) and x.is_inference() else x
