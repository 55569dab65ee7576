"""Attention with a second derivative that never holds its ``L × L`` matrices.

Fused kernels have a first derivative only, and PyTorch's mathematical form keeps every ``L × L``
matrix of every layer until the second derivative has been taken. Here only q, k, v and the
gradients with respect to the output are kept; the matrices are computed again, a few heads at a
time. The result is exact: the same formulas, not an approximation.
"""

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

# B batch, H heads, L queries, S keys, D channels of a head. In formulas: Q, K, V, O the rows of one
# head, s the scale, G = ∂/∂O, P = softmax(s Q Kᵀ), A = G Vᵀ, and D the row sums of P ∘ A.

_FUSED = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]

# Elements of the L × S matrices that are computed at once: about what the caches of a CPU hold, and
# 256 MB on a GPU, which is enough to keep it busy.
_CHUNK = {'cpu': 2**18, 'other': 2**26}


def attention(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
    """``softmax(scale · q kᵀ) v``, differentiable twice.

    Args:
        q: ``(..., L, D)``, floating point.
        k: ``(..., S, D)``, of the type and leading shape of q.
        v: ``(..., S, D)``, likewise.
        scale: a factor of the products; ``D ** −0.5`` by default.

    Returns:
        ``(..., L, D)``.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return _forward(q, k, v, scale)


@torch.library.custom_op('mmebm::attention', mutates_args=())
def _forward(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    with sdpa_kernel(_FUSED):
        return F.scaled_dot_product_attention(q, k, v, scale=scale).contiguous()


@torch.library.custom_op('mmebm::attention_backward', mutates_args=())
def _backward(
    g: Tensor, q: Tensor, k: Tensor, v: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    return _in_chunks(first_derivative, scale, g, q, k, v)


@torch.library.custom_op('mmebm::attention_double_backward', mutates_args=())
def _double_backward(
    gq: Tensor, gk: Tensor, gv: Tensor, g: Tensor, q: Tensor, k: Tensor, v: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _in_chunks(second_derivative, scale, gq, gk, gv, g, q, k, v)


def first_derivative(
    g: Tensor, q: Tensor, k: Tensor, v: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of ``⟨g, attention(q, k, v)⟩``.

    Args:
        g: ``(..., L, D)``, with respect to the output.
        q, k, v, scale: as for :func:`attention`.

    Returns:
        With respect to q, k and v, of their shapes.
    """
    p, ds, _, _ = _softmax_and_gradient(g, q, k, v, scale)
    return scale * (ds @ k), scale * (ds.mT @ q), p.to(q.dtype).mT @ g


def second_derivative(
    gq: Tensor, gk: Tensor, gv: Tensor, g: Tensor, q: Tensor, k: Tensor, v: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of ``⟨(gq, gk, gv), first_derivative(g, q, k, v)⟩``.

    That scalar is ``⟨g, Ȯ⟩``, with Ȯ the change of the output along (gq, gk, gv).

    Args:
        gq, gk, gv: of the shapes of q, k and v.
        g, q, k, v, scale: as for :func:`first_derivative`.

    Returns:
        With respect to g, q, k and v, of their shapes.
    """
    p, ds, a, d = _softmax_and_gradient(g, q, k, v, scale)
    # Ṡ = s (gq Kᵀ + Q gkᵀ), in one product
    change = ((scale * torch.cat([gq, q], -1)) @ torch.cat([k, gk], -1).mT).to(a.dtype)
    centred = change - _row_sum(p * change)
    dp = (p * centred).to(q.dtype)  # Ṗ
    m = a.mul_(centred).sub_(change.mul_(d)).add_(g @ gv.mT)  # ∂⟨g, Ȯ⟩ / ∂P
    ds2 = (p * m.sub_(_row_sum(p * m))).to(q.dtype)
    return (
        dp @ v + p.to(q.dtype) @ gv,
        scale * (ds2 @ k + ds @ gk),
        scale * (ds2.mT @ q + ds.mT @ gq),
        dp.mT @ g,
    )


def _softmax_and_gradient(
    g: Tensor, q: Tensor, k: Tensor, v: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """P, ``∂⟨g, attention⟩ / ∂(s Q Kᵀ)``, A and D; ``(..., L, S)`` but D, ``(..., L, 1)``.

    Matrix products are taken in the type of q, the rest in float32 at least.
    """
    wide = torch.promote_types(q.dtype, torch.float32)
    p = F.softmax((scale * q) @ k.mT, dim=-1, dtype=wide)
    a = (g @ v.mT).to(wide)
    d = _row_sum(p * a)
    return p, (p * (a - d)).to(q.dtype), a, d


def _row_sum(x: Tensor) -> Tensor:
    return x.sum(-1, keepdim=True)


def _in_chunks(function, scale: float, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Calls ``function(*tensors, scale)`` for a few heads at a time.

    The tensors are gradients with respect to the results of the call before, then q, k and v,
    each of them ``(..., L or S, D)``; the results have the shapes of the last ones.
    """
    q, k = tensors[-3:-1]
    heads = [x.reshape(-1, *x.shape[-2:]) for x in tensors]
    elements = _CHUNK.get(q.device.type, _CHUNK['other'])
    size = max(1, elements // (q.shape[-2] * k.shape[-2]))
    parts = [function(*chunk, scale) for chunk in zip(*(x.split(size) for x in heads), strict=True)]
    shapes = [x.shape for x in tensors[-len(parts[0]) :]]
    return tuple(
        torch.cat(part).reshape(shape)
        for part, shape in zip(zip(*parts, strict=True), shapes, strict=True)
    )


@_forward.register_fake
def _(q, k, v, scale):
    return q.new_empty((*q.shape[:-1], v.shape[-1]))


@_backward.register_fake
def _(g, q, k, v, scale):
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


@_double_backward.register_fake
def _(gq, gk, gv, g, q, k, v, scale):
    return tuple(x.new_empty(x.shape) for x in (g, q, k, v))


def _save(ctx, inputs, output):
    *tensors, ctx.scale = inputs
    ctx.save_for_backward(*tensors)


_forward.register_autograd(
    lambda ctx, g: (*_backward(g, *ctx.saved_tensors, ctx.scale), None), setup_context=_save
)
_backward.register_autograd(
    lambda ctx, gq, gk, gv: (*_double_backward(gq, gk, gv, *ctx.saved_tensors, ctx.scale), None),
    setup_context=_save,
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

    With a mask, dropout or grouped queries it is PyTorch's own mathematical form, which keeps the
    matrices; else it is :func:`attention`.
    """
    plain = attn_mask is None and not dropout_p and not is_causal and not any(options.values())
    if plain and query.dim() == key.dim() == value.dim():
        device = query.device.type
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
            query, key, value = (x.to(dtype) for x in (query, key, value))
        return attention(query, key, value, scale)
    with sdpa_kernel(SDPBackend.MATH):
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, **options
        )
