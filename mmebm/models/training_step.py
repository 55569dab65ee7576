"""One differentiated step of the descent, as it is or compiled."""

import logging
from collections.abc import Callable, Sequence
from textwrap import shorten
from typing import NamedTuple

import numpy as np
import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from .descent import Energy, descent_step
from .gradient_collection import added_gradients


class Step(NamedTuple):
    """What a step of training gives; nothing holds a graph.

    Attributes:
        x: the next x, ``(B, ...)``.
        energies: of the given x, ``(B,)``.
        distance: of the next x to what is to be restored, 0-dim.
        gradients: of ``weight · distance`` with respect to each parameter, added to the totals.
    """

    x: Tensor
    energies: Tensor
    distance: Tensor
    gradients: Sequence[Tensor]


def training_step(
    energy: Energy,
    distance: Callable[[Tensor], Tensor],
    x: Tensor,
    log_step_size: Tensor,
    parameters: Sequence[Tensor],
    weight: Tensor | float,
    totals: list[Tensor] | None = None,
) -> Step:
    """Descend once, and differentiate the distance that is left (a term of equation 5).

    Args:
        energy: maps x ``(B, ...)`` to energies ``(B,)``.
        distance: maps x to a 0-dim tensor.
        x: ``(B, ...)``.
        log_step_size: log α, 0-dim.
        parameters: leaves; one that has no influence gets zeros.
        weight: a factor of the distance while it is differentiated.
        totals: gradients of earlier steps, changed in place.
    """
    x, e = descent_step(energy, x, log_step_size.exp(), create_graph=True)
    d = distance(x)
    gradients = added_gradients(weight * d, parameters, totals)
    # A clone, since smooth_l1_loss returns its mean in a buffer as large as the images.
    return Step(x.detach(), e.detach(), d.detach().clone(), gradients)


class CompiledStep:
    """:func:`training_step` as one compiled graph; where that cannot be had it says why, once.

    The first call compiles, which takes minutes for a large network. An x of another shape, such as
    the last and smaller batch of an epoch, is not worth that, and takes the plain step.

    Args:
        module: the network, whose constants are made plain for the compiler.
    """

    def __init__(self, module: nn.Module):
        self.compiled = self.shape = None
        reason = why_not_compiled()
        if reason is not None:
            self._fall_back(reason)
            return
        print_log(
            'The first iteration compiles the training step, which takes minutes; '
            'compile_step=False does without.',
            'current',
        )
        _plain_numbers(module)
        torch._dynamo.config.trace_autograd_ops = True
        # DistributedDataParallel's own cuts for the compiler: gradients leave this graph at its end
        torch._dynamo.config.optimize_ddp = False
        # not dynamic: the second derivative of a convolution does not take symbolic sizes
        self.compiled = torch.compile(training_step, fullgraph=True, dynamic=False)

    def __call__(self, energy, distance, x, log_step_size, parameters, weight, totals=None) -> Step:
        """As :func:`training_step`."""
        arguments = (energy, distance, x, log_step_size, parameters, weight)
        if self.shape is None:
            self.shape = x.shape
        if self.compiled is not None and x.shape == self.shape:
            try:
                # a compiled graph cannot make a leaf, so it gets one
                leaf = x.detach().requires_grad_()
                step = self.compiled(energy, distance, leaf, *arguments[3:])
                if totals is None:
                    return step
                torch._foreach_add_(totals, step.gradients)
                return step._replace(gradients=totals)
            except (
                torch._dynamo.exc.TorchDynamoException,
                torch._dynamo.exc.FailOnRecompileLimitHit,
                torch._inductor.exc.InductorError,
            ) as e:
                # not where it was raised, nor all of the graph
                reason = shorten(str(e).split('\n\n')[0], 400, placeholder=' ...')
                self._fall_back(f'{type(e).__name__}: {reason}')
        return training_step(*arguments, totals)

    def _fall_back(self, reason: str) -> None:
        self.compiled = None
        print_log(f'The training step is not compiled: {reason}', 'current', logging.WARNING)


def why_not_compiled() -> str | None:
    """What this PyTorch lacks to compile a derivative of a derivative; None where nothing."""
    if not hasattr(torch._dynamo.config, 'trace_autograd_ops'):
        return f'torch {torch.__version__} cannot compile torch.autograd.grad; newer ones can'
    return None


def _plain_numbers(module: nn.Module) -> None:
    """Python's numbers for NumPy's, which the compiler would take for tensors."""
    for part in module.modules():
        for name, value in vars(part).items():
            if isinstance(value, np.generic):
                setattr(part, name, value.item())
