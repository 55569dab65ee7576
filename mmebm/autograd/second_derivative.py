"""Second derivatives: where PyTorch has none, or one that keeps too much, and where one is missing.

Fused attention has a first derivative only, and PyTorch's mathematical form keeps five ``L × L``
matrices of every layer until the second derivative has been taken. Here the softmax is kept where
it is no larger than the rest of a layer's attention, and computed again where it is; everything
else of that size lives for a few heads at a time. The formulas are exact.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from .batch_norm import batch_norm
from .onednn_linear import linear

# B batch, H heads, L queries, S keys, D channels of a head. In formulas: Q, K, V, O the rows of one
# head, s the scale, P = softmax(s Q Kᵀ), O = P V, and G = ∂/∂O.

# Elements of the L × S matrices that are computed at once: few enough for the caches of a CPU,
# enough to outweigh the overhead; 256 MB on a GPU, enough to keep it busy.
_CHUNK = {'cpu': 2**19, 'other': 2**26}

# P is kept where its rows take no more bytes than this many rows of q: those of q, k, v and o.
_KEEP = 4


def attention(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
    """``softmax(scale · q kᵀ) v``, differentiable twice.

    In half precision the softmax, its logits and all sums are float32, as in fused kernels.

    Args:
        q: ``(..., L, D)``, floating point.
        k: ``(..., S, D)``, of the type and leading shape of q.
        v: ``(..., S, D)``, likewise.
        scale: a factor of the products; ``D ** −0.5`` by default.

    Returns:
        ``(..., L, D)``, in the memory order of q.
    """
    if q.dim() != 4:
        images = [x.reshape((1,) * (4 - x.dim()) + x.shape).flatten(0, -4) for x in (q, k, v)]
        return attention(*images, scale).reshape(q.shape)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    keep = k.shape[-2] * _wide(q).itemsize <= _KEEP * q.shape[-1] * q.dtype.itemsize
    return _forward(q, k, v, scale, keep, torch.compiler.is_compiling())[0]


# The operators take and give (B, H, L, D). P is (B, H, L, S), or has no elements: compute it again.
# In a compiled step the formulas are compiled too, each as a graph of its own, for one chunk.


@torch.library.custom_op('mmebm::attention', mutates_args=())
def _forward(
    q: Tensor, k: Tensor, v: Tensor, scale: float, keep: bool, compiled: bool
) -> tuple[Tensor, Tensor]:
    o, p = _empty_results(q, k, keep)
    if keep:
        _in_chunks(_output_and_softmax, (q, k, v), scale, (o, p), compiled)
    else:
        o.copy_(F.scaled_dot_product_attention(q, k, v, scale=scale))
    return o, p


@torch.library.custom_op('mmebm::attention_backward', mutates_args=())
def _backward(
    g: Tensor, q: Tensor, k: Tensor, v: Tensor, p: Tensor, scale: float, compiled: bool
) -> tuple[Tensor, Tensor, Tensor]:
    results = _like(q, k, v)
    _in_chunks(_first_derivative, (g, q, k, v, p), scale, results, compiled)
    return results


@torch.library.custom_op('mmebm::attention_double_backward', mutates_args=())
def _double_backward(
    gq: Tensor,
    gk: Tensor,
    gv: Tensor,
    g: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    p: Tensor,
    scale: float,
    compiled: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    results = _like(q, q, k, v)
    _in_chunks(_second_derivative, (gq, gk, gv, g, q, k, v, p), scale, results, compiled)
    return results


# The formulas, for (..., L, D). Matrix products are taken in the type of q; the rest is float32 at
# least, and so are the logits, whose errors the softmax would multiply.


def _output_and_softmax(q, k, v, scale):
    p = _softmax(q, k, scale)
    return p.to(q.dtype) @ v, p


def _first_derivative(g, q, k, v, p, scale):
    """Gradients of ``⟨g, attention(q, k, v)⟩`` with respect to q, k and v."""
    p = p if p.numel() else _softmax(q, k, scale)
    ds = _centred(g @ v.mT, p).mul_(p).to(q.dtype)
    return scale * (ds @ k), scale * (ds.mT @ q), p.to(q.dtype).mT @ g


def _second_derivative(gq, gk, gv, g, q, k, v, p, scale):
    """Gradients of ``⟨(gq, gk, gv), _first_derivative(g, q, k, v)⟩`` with respect to g, q, k and v.

    P is a function of q and k. That scalar is ``⟨g, Ȯ⟩``, with Ȯ = Ṗ V + P gv the change of the
    output along (gq, gk, gv).
    """
    p = p if p.numel() else _softmax(q, k, scale)
    a = _centred(g @ v.mT, p)
    # Ṡ = s (gq Kᵀ + Q gkᵀ), in one product, then Ṗ = P ∘ (Ṡ − the row sums of P ∘ Ṡ)
    c = _centred(scale * (torch.cat([gq, q], -1) @ torch.cat([k, gk], -1).mT), p)
    # ∂⟨g, Ȯ⟩ / ∂P, but for a constant of each row
    m = _centred((g @ gv.mT).to(a.dtype).addcmul_(a, c), p)
    ds2, ds, dp = (x.mul_(p).to(q.dtype) for x in (m, a, c))
    return (
        dp @ v + p.to(q.dtype) @ gv,
        scale * (ds2 @ k + ds @ gk),
        scale * (ds2.mT @ q + ds.mT @ gq),
        dp.mT @ g,
    )


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _softmax(q: Tensor, k: Tensor, scale: float) -> Tensor:
    """P, float32 at least."""
    wide = _wide(q)
    if q.is_cuda and q.dtype != wide and hasattr(torch.ops.aten.bmm, 'dtype'):  # since torch 2.8
        logits = torch.bmm(q.flatten(0, -3), k.flatten(0, -3).mT, out_dtype=wide)
        logits = logits.unflatten(0, q.shape[:-2])
    else:
        logits = q.to(wide) @ k.to(wide).mT
    return logits.mul_(scale).softmax(-1)


def _centred(x: Tensor, p: Tensor) -> Tensor:
    """An x, as wide as P, less its mean over each row with the weights P."""
    x = x.to(p.dtype)
    return x.sub_((p * x).sum(-1, keepdim=True))


def _in_chunks(
    function: Callable, tensors: tuple, scale: float, results: tuple, compiled: bool
) -> None:
    """Write ``function(*tensors, scale)`` into the results, a few images or heads at a time.

    All are ``(B, H, L or S, ...)``; a tensor without elements is passed on unchanged.
    """
    write = _writer(function, compiled)
    device = results[0].device.type
    images, heads, queries, _ = results[0].shape
    pairs = queries * max(x.shape[-2] for x in tensors if x.numel())
    limit = _CHUNK.get(device, _CHUNK['other'])
    images_at_once = max(1, limit // (heads * pairs))
    heads_at_once = max(1, limit // pairs)
    with torch.autocast(device, enabled=False):  # types are chosen here
        for image in range(0, images, images_at_once):
            # One image is an index, since the products of a slice would copy what they multiply.
            at = image if images_at_once == 1 else slice(image, image + images_at_once)
            for head in range(0, heads, heads_at_once):
                chunk = (at, slice(head, head + heads_at_once))
                parts = [x[chunk] if x.numel() else x for x in tensors]
                write([result[chunk] for result in results], parts, scale)


@cache
def _writer(function: Callable, compiled: bool) -> Callable:
    def write(results: list[Tensor], tensors: list[Tensor], scale: float) -> None:
        for result, value in zip(results, function(*tensors, scale), strict=True):
            result.copy_(value)

    if not compiled:
        return write
    # Each formula is compiled for a few memory layouts, and all of them count as this one function.
    torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
    return torch.compile(write, dynamic=False)


def _empty_results(q: Tensor, k: Tensor, keep: bool) -> tuple[Tensor, Tensor]:
    shape = (*q.shape[:-1], k.shape[-2]) if keep else (0,)
    return torch.empty_like(q), q.new_empty(shape, dtype=_wide(q))


def _like(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(map(torch.empty_like, tensors))


_forward.register_fake(lambda q, k, v, scale, keep, compiled: _empty_results(q, k, keep))
_backward.register_fake(lambda g, q, k, v, *_: _like(q, k, v))
_double_backward.register_fake(lambda gq, gk, gv, g, q, k, v, *_: _like(q, q, k, v))


def _save_forward(ctx, inputs, output):
    q, k, v, scale, _, compiled = inputs
    ctx.options = scale, compiled
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(q, k, v, output[1])


def _save_backward(ctx, inputs, output):
    *tensors, scale, compiled = inputs
    ctx.options = scale, compiled
    ctx.save_for_backward(*tensors)


# p is a function of q and k: its part of the second derivative is in that of q and k.
_forward.register_autograd(
    lambda ctx, g, _: (*_backward(g, *ctx.saved_tensors, *ctx.options), None, None, None),
    setup_context=_save_forward,
)
_backward.register_autograd(
    lambda ctx, *g: (*_double_backward(*g, *ctx.saved_tensors, *ctx.options), None, None, None),
    setup_context=_save_backward,
)


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    **options,
) -> Tensor:
    """PyTorch's function of this name, differentiable twice.

    With a mask, dropout, grouped queries, or keys and values that broadcast, this is PyTorch's own
    mathematical form, which keeps the matrices; otherwise it is :func:`attention`.
    """
    device = query.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        query, key, value = (x.to(dtype) for x in (query, key, value))
    plain = attn_mask is None and not dropout_p and not is_causal and not any(options.values())
    if plain and query.shape[:-2] == key.shape[:-2] and key.shape == value.shape:
        return attention(query, key, value, scale)
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:
            attn_mask = torch.where(attn_mask, 0.0, float('-inf'))
        attn_mask = attn_mask.to(query.dtype)
    # Not through sdpa_kernel, whose flags are those of all threads.
    with torch.autocast(device, enabled=False):
        return torch.ops.aten._scaled_dot_product_attention_math(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, **options
        )[0]


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
    F.batch_norm: batch_norm,
    F.hardsigmoid: lambda x, inplace=False: F.relu6(x + 3) / 6,
}


class TwiceDifferentiableFunctions(TorchFunctionMode):
    """Within the context, replace functions without a second derivative by equivalent ones, and
    batch norm by one whose statistics are constants.

    In this thread, and in calls from any code.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is F.linear and torch.compiler.is_compiling():
            func = linear  # faster in a compiled step on a CPU
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
    gradient has no way back to a factor of what was differentiated.

    Args:
        backbone: to name it.
        value: what was differentiated, the energy say, with its graph.
        gradient: of ``scale · value``, with its graph.
        scale: 0-dim, requiring a gradient.

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
