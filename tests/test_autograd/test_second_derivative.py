"""Attention without L × L matrices, against the formula written out."""

import threading

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmebm.autograd import second_derivative as module
from mmebm.autograd.second_derivative import (
    TwiceDifferentiableFunctions,
    attention,
    twice_differentiable,
)
from tests.derivatives import derivatives


def reference(q, k, v, scale=None):
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return torch.softmax(scale * q @ k.transpose(-1, -2), -1) @ v


def inputs(dtype=torch.float64, length=6, keys=6, heads=(2, 3), width=4):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(*heads, n, width, generator=generator, dtype=torch.float64)
        .to(dtype)
        .requires_grad_()
        for n in (length, keys, keys)
    ]


@pytest.fixture(params=['softmax kept', 'softmax computed again'], autouse=True)
def keep(request, monkeypatch):
    kept = request.param == 'softmax kept'
    monkeypatch.setattr(module, '_KEEP', 4 if kept else 0)
    return kept


@pytest.mark.parametrize('chunk', [1, 2 * 9, 2 * 2 * 9, 2**18])
def test_derivatives_by_finite_differences(chunk, monkeypatch):
    """One head at a time, some, and all at once."""
    monkeypatch.setitem(module._CHUNK, 'cpu', chunk)
    tensors = inputs(length=3, keys=3, heads=(2, 2), width=2)
    assert torch.autograd.gradcheck(attention, tensors)
    assert torch.autograd.gradgradcheck(attention, tensors)


@pytest.mark.parametrize('options', [{}, {'scale': 0.3}])
@pytest.mark.parametrize('keys', [6, 9])
@pytest.mark.parametrize('heads', [(2, 3), (5,), ()])
def test_equals_the_formula(heads, keys, options):
    tensors = inputs(keys=keys, heads=heads)
    found = derivatives(attention, tensors, **options)
    torch.testing.assert_close(found, derivatives(reference, tensors, **options))


@pytest.mark.parametrize('sharpness', [1, 12])  # σ of the logits
@pytest.mark.parametrize(
    ('dtype', 'tolerance'), [(torch.float32, 1e-5), (torch.bfloat16, 5e-3), (torch.float16, 6e-4)]
)
def test_is_as_exact_as_fused_kernels(dtype, tolerance, sharpness):
    """Whose softmax is float32; with a softmax of half precision the errors are tenfold."""
    q, k, v = inputs(dtype, length=64, keys=64, width=64)
    tensors = [(sharpness * q).detach().requires_grad_(), k, v]
    generator = torch.Generator().manual_seed(1)
    directions = [torch.randn(x.shape, generator=generator).to(dtype) for x in (q, q, k, v)]

    def derivatives_along(function, dtype):
        x = [t.detach().to(dtype).requires_grad_() for t in tensors]
        g, *v = (d.to(dtype) for d in directions)
        out = function(*x)
        first = torch.autograd.grad(out, x, g, create_graph=True)
        return out, *first, *torch.autograd.grad(first, x, v)

    exact = derivatives_along(reference, torch.float64)
    for ours, expected in zip(derivatives_along(attention, dtype), exact, strict=True):
        assert ours.dtype == dtype
        assert (ours - expected).norm() <= tolerance * expected.norm()


def test_a_saturated_softmax_has_no_gradient():
    q = torch.tensor([[8.0, 0.0]], dtype=torch.float16, requires_grad=True)
    k = torch.tensor([[8.0, 0.0], [0.0, 8.0]], dtype=torch.float16, requires_grad=True)
    v = torch.tensor([[100.0, 7.0], [-30.0, 2.0]], dtype=torch.float16, requires_grad=True)
    exact = derivatives(reference, [x.detach().double().requires_grad_() for x in (q, k, v)])
    for ours, expected in zip(derivatives(attention, [q, k, v]), exact, strict=True):
        assert (ours - expected).abs().max() <= 1e-3 * (1 + expected.abs().max())


@pytest.mark.parametrize(('length', 'matrices'), [(40, 0), (16, 1)])
def test_keeps_a_matrix_of_all_pairs_only_if_it_is_small(length, matrices, monkeypatch):
    monkeypatch.setattr(module, '_KEEP', 4)
    tensors, kept = inputs(length=length, keys=length), {}
    with saved_tensors_hooks(lambda x: kept.update({x.data_ptr(): x}) or x, lambda x: x):
        out = attention(*tensors)
        torch.autograd.grad(out.pow(2).sum(), tensors, create_graph=True)
    assert sum(x.shape[-1] == length for x in kept.values() if x.dim()) == matrices


@pytest.mark.parametrize(
    'options',
    [
        dict(attn_mask=torch.ones(6, 6).tril().bool()),
        dict(attn_mask=torch.linspace(-1, 1, 36, dtype=torch.float64).reshape(6, 6)),
        dict(is_causal=True),
        dict(dropout_p=0.5),
    ],
)
def test_masks_and_dropout_are_not_lost(options):
    def call(*tensors):
        torch.manual_seed(0)
        return F.scaled_dot_product_attention(*tensors, **options)

    with TwiceDifferentiableFunctions():
        found = derivatives(call, inputs())
    with sdpa_kernel(SDPBackend.MATH):
        expected = derivatives(call, inputs())
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('inplace', [False, True])
def test_the_hard_sigmoid(inplace):
    x = torch.linspace(-5, 5, 8, dtype=torch.float64).requires_grad_()
    gate = torch.nn.Hardsigmoid(inplace)
    with pytest.raises(RuntimeError, match='hardsigmoid_backward'):  # torch has no second one
        derivatives(lambda x: gate(1 * x), [x])
    with TwiceDifferentiableFunctions():
        found = derivatives(lambda x: gate(1 * x), [x])
    torch.testing.assert_close(found, derivatives(lambda x: (x / 6 + 0.5).clamp(0, 1), [x]))


@pytest.mark.parametrize('mask', [None, torch.ones(6, 6)])
def test_autocast_reaches_it(mask):
    tensors = inputs(torch.float32)
    with torch.autocast('cpu', torch.bfloat16), TwiceDifferentiableFunctions():
        assert F.scaled_dot_product_attention(*tensors, mask).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ('key', 'value'), [((2, 1, 6, 4), (2, 1, 6, 4)), ((2, 3, 6, 4), (2, 3, 6, 5))]
)
def test_keys_and_values_that_broadcast_or_are_wider(key, value):
    tensors = [torch.randn(s, dtype=torch.float64) for s in ((2, 3, 6, 4), key, value)]
    tensors = [x.requires_grad_() for x in tensors]
    with TwiceDifferentiableFunctions():
        found = derivatives(F.scaled_dot_product_attention, tensors)
    torch.testing.assert_close(found, derivatives(reference, tensors))


def test_other_threads_and_the_rest_of_the_process_keep_their_kernels():
    """Two threads enter and leave in turn: the first that enters leaves first."""
    entered, left = threading.Event(), threading.Event()

    def other():
        with twice_differentiable(torch.nn.Identity()):
            entered.set()
            left.wait()

    def kernel():
        q = torch.randn(1, 1, 8, 8, requires_grad=True)
        return type(F.scaled_dot_product_attention(q, q, q).grad_fn).__name__

    thread = threading.Thread(target=other)
    with twice_differentiable(torch.nn.Identity()):
        thread.start()
        entered.wait()
    names = [kernel()]
    left.set()
    thread.join()
    names.append(kernel())
    assert all('Flash' in name for name in names)


@pytest.mark.parametrize('inside', [F.scaled_dot_product_attention, None])
def test_every_attention_of_torch_is_twice_differentiable(inside):
    layer = torch.nn.MultiheadAttention(4, 2, batch_first=True, dtype=torch.float64)

    def call(q, k, v):
        return inside(q, k, v) if inside else layer(q, k, v, need_weights=False)[0]

    tensors = inputs(heads=(2,))
    with twice_differentiable(layer):
        found = derivatives(call, tensors)
    with sdpa_kernel(SDPBackend.MATH):
        expected = derivatives(call, tensors)
    torch.testing.assert_close(found, expected)
