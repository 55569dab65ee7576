"""Transformer blocks whose activations are recomputed, not kept, through two derivatives.

``torch.utils.checkpoint`` saves no memory here: the gradient, being differentiated again, keeps
what it recomputed. Here the value, the gradient and the second derivative of a block are one
autograd function each, which keeps only its arguments and runs the block again. With F one forward
pass of the block, a step of the descent takes 12 F for it instead of 6: F for the value, 2 F for
the gradient with respect to the input, 6 F to differentiate that, 3 F to differentiate the value.
"""

from collections.abc import Sequence
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_flatten, tree_unflatten

from ..utils.batch_norm import training_batch_norms
from .second_derivative import check_graph_of_gradient, leaves_of_graph, replaced_functions

Tensors = Sequence[Tensor | None]


def checkpoint_activations(backbone: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Let blocks of a backbone recompute their activations instead of keeping them.

    Their values and derivatives are the same, up to the second one; a third is refused. The forward
    of each block is replaced; parameters keep their names, and copies and pickles of the backbone
    recompute too. Hooks on a block run once, those inside it with each run. Each run
    has the random numbers and the autocast of the first.

    Args:
        backbone: changed in place.
        patterns: names of blocks, with the wildcards of ``fnmatch``, which do not reach across a
            dot: ``layers.*`` is each layer of MMPretrain's vision transformer, and nothing in it.

    Returns:
        The names of the blocks.

    Raises:
        TypeError: ``patterns`` is not a sequence of strings.
        ValueError: a pattern matches nothing, a block lies in another one, is not a block (has no
            forward, or one that was replaced already), or has a batch norm that would update its
            statistics with each run.
    """
    if isinstance(patterns, str) or not all(isinstance(p, str) for p in patterns):
        raise TypeError(
            "recompute must be a list of names of modules in the backbone, such as ['layers.*'], "
            f'got {patterns!r}'
        )
    blocks = {}
    for pattern in patterns:
        found = {n: m for n, m in backbone.named_modules() if n and _matches(n, pattern)}
        if not found:
            raise ValueError(
                f'recompute: {pattern!r} is not a module of {type(backbone).__name__}, which has '
                f'{_some_names(backbone)}'
            )
        blocks |= found
    for name, block in blocks.items():
        outer = next((n for n in blocks if name.startswith(f'{n}.')), None)
        if outer is not None:
            raise ValueError(f'recompute: {name!r} lies in {outer!r}; name one of them')
        if type(block).forward is nn.Module.forward:
            raise ValueError(
                f'recompute: {name!r} is a {type(block).__name__}, which computes nothing; name '
                f'what it holds, as {name + ".*"!r}'
            )
        if 'forward' in vars(block):
            raise ValueError(f'recompute: the forward of {name!r} was replaced already')
    coupling = [n for n in training_batch_norms(backbone) if _inside(n, blocks)]
    if coupling:
        raise ValueError(
            f'recompute: {coupling[0]!r} is a batch norm in training mode, whose running '
            'statistics would be updated several times; GroupNormBackbone replaces them'
        )
    for block in blocks.values():
        block.forward = RecomputedForward(block)
    return list(blocks)


def _matches(name: str, pattern: str) -> bool:
    parts, patterns = name.split('.'), pattern.split('.')
    return len(parts) == len(patterns) and all(map(fnmatchcase, parts, patterns))


def _inside(name: str, blocks: dict[str, nn.Module]) -> bool:
    return any(f'{name}.'.startswith(f'{n}.') for n in blocks)


def _some_names(backbone: nn.Module) -> str:
    names = [n for n, _ in backbone.named_modules() if n.count('.') in (0, 1) and n]
    return ', '.join(names[:20]) + (', ...' if len(names) > 20 else '')


class RecomputedForward:
    """Replace the forward of a block; see :func:`checkpoint_activations`.

    Args:
        block: any module. Its forward may take and return tensors in nested tuples, lists and
            dictionaries, beside anything else.

    Calling it raises ValueError where the block changes its buffers or arguments in place, or uses
    a tensor that requires a gradient and is neither its parameter nor its argument; and
    NotImplementedError, when it is differentiated, where it has no second derivative.
    """

    def __init__(self, block: nn.Module):
        self.block = block
        self.checked = False  # once per process

    def __getstate__(self) -> dict:
        return dict(vars(self), checked=False)

    def __call__(self, *args, **kwargs) -> Any:
        values, structure = tree_flatten((args, kwargs))
        arguments = [x for x in values if isinstance(x, Tensor)]
        parameters = {n: p for n, p in self.block.named_parameters() if p.requires_grad}
        if not torch.is_grad_enabled() or not (
            parameters or any(x.requires_grad for x in arguments)
        ):
            return _forward(self.block, *args, **kwargs)
        call = _Call(self, values, structure, list(parameters))
        parameters = _Parameters.apply(*parameters.values()) if parameters else ()
        outputs = _Value.apply(call, *arguments, *parameters)
        return tree_unflatten(outputs, call.outputs)


def _forward(block: nn.Module, *args, **kwargs) -> Any:
    return type(block).forward(block, *args, **kwargs)


class _WithoutHooks(nn.Module):
    """The plain forward of a block, for functional_call."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.block = block

    def forward(self, *args, **kwargs):
        return _forward(self.block, *args, **kwargs)


class _Call:
    """One call of a block: all that is needed to repeat it, except the tensors."""

    def __init__(
        self, forward: RecomputedForward, values: Sequence, structure: Any, names: Sequence[str]
    ):
        self.forward, self.block = forward, forward.block
        self.values = [None if isinstance(x, Tensor) else x for x in values]
        self.structure = structure
        self.places = [i for i, x in enumerate(values) if isinstance(x, Tensor)]
        self.names = [f'block.{n}' for n in names]
        devices = {values[i].device for i in self.places}
        kinds = {'cpu'} | {d.type for d in devices}
        self.kinds = [k for k in sorted(kinds) if torch.amp.is_autocast_available(k)]
        self.devices = [d for d in devices if d.type not in ('cpu', 'meta')]
        self.autocast = self.autocast_now()
        self.outputs = None  # their structure

    def run(self, tensors: Tensors) -> list:
        """The outputs of the block, flat."""
        values = list(self.values)
        for place, tensor in zip(self.places, tensors, strict=False):
            values[place] = tensor
        args, kwargs = tree_unflatten(values, self.structure)
        parameters = dict(zip(self.names, tensors[len(self.places) :], strict=True))
        with _autocast(self.autocast), replaced_functions():
            output = functional_call(_WithoutHooks(self.block), parameters, args, kwargs)
        flat, self.outputs = tree_flatten(output)
        return flat

    def first_run(self, tensors: Tensors) -> list:
        """As :meth:`run`, and keeps the state of the random generators."""
        self.cpu_state = torch.get_rng_state()
        self.states = [getattr(torch, d.type).get_rng_state(d) for d in self.devices]
        before = [(x, x._version) for x in (*tensors[: len(self.places)], *self.block.buffers())]
        outputs = self.run(tensors)
        now = (*tensors[: len(self.places)], *self.block.buffers())
        if any(x is not y or x._version != v for x, (y, v) in zip(now, before, strict=True)):
            raise ValueError(
                f'{type(self.block).__name__} changes its buffers or its arguments, so it '
                'cannot be recomputed: remove it from recompute'
            )
        return outputs

    def run_again(self, tensors: Tensors) -> list:
        """As :meth:`run`, with the random numbers of the first time, and with a graph."""
        kind = self.devices[0].type if self.devices else 'cpu'
        with torch.random.fork_rng(self.devices, device_type=kind), torch.enable_grad():
            torch.set_rng_state(self.cpu_state)
            for device, state in zip(self.devices, self.states, strict=True):
                getattr(torch, device.type).set_rng_state(state, device)
            return self.run(tensors)

    def autocast_now(self) -> list[tuple[str, torch.dtype, bool]]:
        return [(k, torch.get_autocast_dtype(k), torch.is_autocast_enabled(k)) for k in self.kinds]

    def check(self, g: Tensors, tensors: Tensors, wanted: Sequence[bool]) -> None:
        """Check once for what would silently give wrong derivatives."""
        leaves = _leaves(tensors, wanted)
        outputs = self.run_again(leaves)
        for leaf in leaves_of_graph(_influencing(outputs)):
            if not any(leaf is x for x in leaves):
                raise ValueError(
                    f'{type(self.block).__name__} uses a tensor {tuple(leaf.shape)} that requires '
                    'a gradient and is neither its parameter nor its argument, so it cannot '
                    'be recomputed: remove it from recompute'
                )
        scale = torch.ones((), requires_grad=True)
        scaled = [None if x is None else x.detach() * scale.to(x) for x in g]
        gradients = _gradients(outputs, leaves, scaled, wanted, create_graph=True)
        found = [x for x in gradients if x is not None]
        if found:
            check_graph_of_gradient(self.block, _influencing(outputs), found, scale)


@contextmanager
def _autocast(states: Sequence[tuple[str, torch.dtype, bool]]):
    # without its cache, which would keep a cast copy of each leaf, or one without a graph
    with ExitStack() as stack:
        for kind, dtype, enabled in states:
            stack.enter_context(torch.autocast(kind, dtype, enabled, cache_enabled=False))
        yield


class _Parameters(torch.autograd.Function):
    """The parameters as they are; its node tells whether their gradients are asked for."""

    @staticmethod
    def forward(ctx, *parameters):
        ctx.set_materialize_grads(False)
        return parameters

    @staticmethod
    def backward(ctx, *gradients):
        return gradients


class _Value(torch.autograd.Function):
    """Tensors of a call (arguments, parameters) → outputs of the block."""

    @staticmethod
    def forward(ctx, call, *tensors):
        ctx.call = call
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        outputs = call.first_run(tensors)
        ctx.mark_non_differentiable(
            *(x for x in outputs if isinstance(x, Tensor) and not _differentiable(x))
        )
        return tuple(outputs)

    @staticmethod
    def backward(ctx, *g):
        call, tensors = ctx.call, ctx.saved_tensors
        wanted = [
            needed and _asked_for(node)
            for needed, (node, _) in zip(ctx.needs_input_grad[1:], ctx.next_functions, strict=True)
        ]
        if torch.is_grad_enabled() and not call.forward.checked:
            call.check(g, tensors, wanted)
            call.forward.checked = True
        return (None, *_Gradient.apply(call, wanted, *g, *tensors))


class _Gradient(torch.autograd.Function):
    """Gradients g of the outputs, tensors of a call → gradients of the tensors."""

    @staticmethod
    def forward(ctx, call, wanted, *g_and_tensors):
        ctx.call, ctx.wanted = call, wanted
        ctx.autocast = call.autocast_now()
        ctx.save_for_backward(*g_and_tensors)
        ctx.set_materialize_grads(False)
        g, tensors = _split(g_and_tensors, wanted)
        leaves = _leaves(tensors, wanted)
        outputs = call.run_again(leaves)
        with _autocast(ctx.autocast):
            return tuple(_gradients(outputs, leaves, g, wanted))

    @staticmethod
    def backward(ctx, *v):
        needed = ctx.needs_input_grad[2:]
        gradients = _SecondGradient.apply(
            ctx.call, ctx.wanted, ctx.autocast, needed, *v, *ctx.saved_tensors
        )
        return (None, None, *gradients)


class _SecondGradient(torch.autograd.Function):
    """Gradients v of the results of _Gradient, its tensors → gradients of its tensors."""

    @staticmethod
    def forward(ctx, call, wanted, autocast, needed, *v_g_and_tensors):
        v, g_and_tensors = v_g_and_tensors[: len(wanted)], v_g_and_tensors[len(wanted) :]
        of_interest = [x is not None for x in v]
        g, tensors = _split(g_and_tensors, wanted)
        needed_g, needed_tensors = _split(needed, wanted)
        g = _leaves(g, needed_g)
        leaves = _leaves(tensors, [a or b for a, b in zip(wanted, needed_tensors, strict=True)])
        outputs = call.run_again(leaves)
        with _autocast(autocast):
            gradients = _gradients(outputs, leaves, g, of_interest, create_graph=True)
        with _autocast(call.autocast_now()):
            return tuple(_gradients(gradients, [*g, *leaves], v, needed))

    @staticmethod
    def backward(ctx, *_):
        raise NotImplementedError(
            'recompute supports first and second derivatives only, but a third was requested'
        )


def _split(g_and_tensors: Sequence, wanted: Sequence[bool]) -> tuple[Sequence, Sequence]:
    outputs = len(g_and_tensors) - len(wanted)
    return g_and_tensors[:outputs], g_and_tensors[outputs:]


def _leaves(tensors: Tensors, wanted: Sequence[bool]) -> list[Tensor | None]:
    """New leaves, so that neither hooks nor graphs of the given tensors take part."""
    return [
        None if x is None else x.detach().requires_grad_(w)
        for x, w in zip(tensors, wanted, strict=True)
    ]


def _differentiable(x: Any) -> bool:
    return isinstance(x, Tensor) and (x.is_floating_point() or x.is_complex())


def _influencing(outputs: Sequence) -> list[Tensor]:
    return [x for x in outputs if _differentiable(x) and x.requires_grad]


def _gradients(
    outputs: Sequence,
    inputs: Tensors,
    g: Tensors,
    wanted: Sequence[bool],
    create_graph: bool = False,
) -> list[Tensor | None]:
    """Of ``⟨g, outputs⟩`` with respect to the wanted inputs; None where there is no influence."""
    pairs = [
        (x, gx)
        for x, gx in zip(outputs, g, strict=True)
        if gx is not None and _differentiable(x) and x.requires_grad
    ]
    chosen = [x for x, w in zip(inputs, wanted, strict=True) if w and x is not None]
    if not pairs or not chosen:
        return [None] * len(inputs)
    xs, gs = zip(*pairs, strict=True)
    with torch.set_grad_enabled(create_graph):
        found = iter(
            torch.autograd.grad(xs, chosen, gs, create_graph=create_graph, allow_unused=True)
        )
    return [
        next(found) if w and x is not None else None for x, w in zip(inputs, wanted, strict=True)
    ]


def _asked_for(node: Any) -> bool:
    """Whether the running differentiation goes on to this node.

    ``ctx.needs_input_grad`` does not tell: with ``torch.autograd.grad`` it is true for all that
    require a gradient.
    """
    will_run = getattr(torch._C, '_will_engine_execute_node', None)  # since torch 2.1
    if will_run is None or node.name().endswith('AccumulateGrad'):  # it takes no leaves
        return True
    return will_run(node)
