"""A partial loss and its gradients as one compiled graph."""

import logging
from collections.abc import Sequence
from textwrap import shorten

import numpy as np
import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from .gradient_collection import Function, Term, differentiate, without_graph


class CompiledDifferentiation:
    """:func:`~mmebm.autograd.differentiate` as one compiled graph.

    The first call compiles, which takes minutes for a large network. An x of another shape, such as
    the last and smaller batch of an epoch, is not worth that and runs uncompiled; so does
    everything, with a line in the log, if it cannot be compiled.

    Args:
        module: the network; its NumPy constants are replaced by Python numbers.
    """

    def __init__(self, module: nn.Module):
        self.compiled = self.shape = None
        reason = why_not_compiled()
        if reason is not None:
            self._fall_back(reason)
            return
        print_log(
            'The first iteration compiles the training step, which takes minutes; '
            'compile_step=False skips that.',
            'current',
        )
        _use_python_numbers(module)
        torch._dynamo.config.trace_autograd_ops = True
        # The graph cuts that the compiler makes for DistributedDataParallel are not needed:
        # gradients leave this graph at its end.
        torch._dynamo.config.optimize_ddp = False
        # Not dynamic: the second derivative of a convolution does not take symbolic sizes.
        self.compiled = torch.compile(_with_gradients, fullgraph=True, dynamic=False)

    def __call__(self, function, x, parameters, totals, scale=1.0) -> Term:
        """As :func:`~mmebm.autograd.differentiate`."""
        self.shape = self.shape or x.shape
        if self.compiled is not None and x.shape == self.shape:
            try:
                # A compiled graph cannot make a leaf, so it gets one.
                leaf = x.detach().requires_grad_()
                term, gradients = self.compiled(function, leaf, parameters, scale)
            except (
                torch._dynamo.exc.TorchDynamoException,
                torch._dynamo.exc.FailOnRecompileLimitHit,
                torch._inductor.exc.InductorError,
            ) as e:
                # The message alone: neither where it was raised, nor the whole graph.
                reason = shorten(str(e).split('\n\n')[0], 400, placeholder=' ...')
                self._fall_back(f'{type(e).__name__}: {reason}')
            else:
                torch._foreach_add_(totals, gradients)
                return term
        return differentiate(function, x, parameters, totals, scale)

    def _fall_back(self, reason: str) -> None:
        self.compiled = None
        print_log(f'The training step is not compiled: {reason}', 'current', logging.WARNING)


def why_not_compiled() -> str | None:
    """What this PyTorch lacks to compile a derivative of a derivative; None if nothing."""
    if not hasattr(torch._dynamo.config, 'trace_autograd_ops'):
        return f'torch {torch.__version__} cannot compile torch.autograd.grad; newer ones can'
    return None


def _with_gradients(
    function: Function, x: Tensor, parameters: Sequence[Tensor], scale: Tensor | float
) -> tuple[Term, Sequence[Tensor]]:
    term = function(x)
    gradients = torch.autograd.grad(
        scale * term['loss'], parameters, allow_unused=True, materialize_grads=True
    )
    return without_graph(term), gradients


def _use_python_numbers(module: nn.Module) -> None:
    """Replace NumPy numbers in attributes, which the compiler would take for tensors."""
    for part in module.modules():
        for name, value in vars(part).items():
            if isinstance(value, np.generic):
                setattr(part, name, value.item())
