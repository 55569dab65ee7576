"""Second derivatives: fused kernels replaced, and missing derivatives named."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from .attention import scaled_dot_product_attention
from .onednn_linear import linear

# What autograd says when an operation has no second derivative, with the operation's name.
_NO_SECOND_DERIVATIVE = re.compile(
    r'derivative for (\S+) is not implemented'
    r'|Trying to backward through (\S+) that is not double differentiable'
)


def _multi_head_attention(*args, need_weights: bool = True, **options) -> tuple:
    # With weights, PyTorch writes attention out; without, it calls a fused kernel unseen.
    output, weights = F.multi_head_attention_forward(*args, need_weights=True, **options)
    return output, weights if need_weights else None


_REPLACEMENTS = {
    F.scaled_dot_product_attention: scaled_dot_product_attention,
    F.multi_head_attention_forward: _multi_head_attention,
    F.hardsigmoid: lambda x, inplace=False: F.relu6(x + 3) / 6,
    F.linear: linear,  # has all derivatives; this one is faster in a compiled step on a CPU
}


class TwiceDifferentiableFunctions(TorchFunctionMode):
    """Within the context, replace functions without a second derivative by equivalent ones.

    In this thread, and in calls from any code.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return _REPLACEMENTS.get(func, func)(*args, **(kwargs or {}))


@contextmanager
def twice_differentiable(backbone: nn.Module) -> Iterator[None]:
    """Replace what has a first derivative only, and say what to do where a second one is missing.

    Raises:
        NotImplementedError: an operation in the context cannot be differentiated twice; names it.
    """
    try:
        with TwiceDifferentiableFunctions():
            yield
    except RuntimeError as error:
        found = _NO_SECOND_DERIVATIVE.search(str(error))
        if found is None:
            raise
        raise _no_second_derivative(backbone, found[1] or found[2]) from error


def check_graph_of_gradient(
    backbone: nn.Module, value: Tensor, gradient: Tensor, scale: Tensor
) -> None:
    """Refuse functions whose own backward silently cuts the graph.

    Those marked ``once_differentiable`` leave an error node in it. Others, such as reversible
    layers, which recompute and differentiate inside their backward, leave nothing: then the
    gradient, which is a factor times another one, has no way back to that factor.

    Args:
        backbone: to name it.
        value: what was differentiated, the energy say, with its graph.
        gradient: of the value times the factor, with its graph.
        scale: the factor, α say, requiring a gradient.

    Raises:
        NotImplementedError: there is such a function; names those that are not PyTorch's own.
    """
    nodes = _nodes(gradient)
    cut = any(type(node).__name__ == 'Error' for node in nodes)
    if cut or get_gradient_edge(scale).node not in nodes:
        own = {type(n).__name__ for n in _nodes(value) if hasattr(n, '_forward_cls')}
        names = ', '.join(sorted(name.removesuffix('Backward') for name in own))
        raise _no_second_derivative(backbone, names or 'a function')


def _nodes(x: Tensor) -> set:
    """All nodes of the autograd graph of a tensor."""
    waiting, seen = [x.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting.extend(child for child, _ in node.next_functions)
    return seen


def _no_second_derivative(backbone: nn.Module, operation: str) -> NotImplementedError:
    return NotImplementedError(
        f'{type(backbone).__name__} cannot be pretrained by energy restoration: {operation} has no '
        'second derivative. Replace it by differentiable operations; often an option of the '
        'backbone switches a fused or custom kernel off.'
    )
