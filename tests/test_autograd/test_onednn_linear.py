"""Linear layers by oneDNN: which ones, and that only the speed differs."""

import pytest
import torch
from torch.nn import functional as F

from mmebm.autograd.onednn_linear import _AVAILABLE, linear, product
from tests.derivatives import derivatives

needs_onednn = pytest.mark.skipif(not _AVAILABLE, reason='this torch has no oneDNN')


def inputs(shape=(7, 5), dtype=torch.float32, bias=True):
    generator = torch.Generator().manual_seed(0)
    shapes = [shape, (6, shape[-1]), *([(6,)] if bias else [])]
    tensors = [torch.randn(s, generator=generator, dtype=torch.float64) / 3 for s in shapes]
    return [x.to(dtype).requires_grad_() for x in tensors]


def products(tensors, autocast=False):
    """How often it calls oneDNN; checks its output against PyTorch's."""
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        with torch.profiler.profile() as profile:
            found = linear(*tensors)
        torch.testing.assert_close(found, F.linear(*tensors))
    return sum(event.key == 'mmebm::product' for event in profile.key_averages())


@needs_onednn
@pytest.mark.parametrize('bias', [True, False])
def test_two_derivatives_equal_those_in_float64(bias):
    found = derivatives(lambda x, w, b=None: product(x, w, b), inputs(bias=bias))
    expected = derivatives(F.linear, inputs(dtype=torch.float64, bias=bias))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-5)


@needs_onednn
def test_operands_in_any_memory_order():
    x, weight, bias = (t.detach() for t in inputs())
    expected = F.linear(x, weight, bias)
    for a in (x, x.mT.contiguous().mT, torch.cat([x, x], 1)[:, :5]):
        for b in (weight, weight.mT.contiguous().mT):
            torch.testing.assert_close(product(a, b, bias), expected)


@needs_onednn
@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('shape', [(3, 5), (2, 3, 5), (2, 3, 4, 5)])
def test_float32_goes_to_onednn(shape, bias):
    assert products(inputs(shape, bias=bias)) == 1


@pytest.mark.parametrize(
    ('shape', 'dtype', 'autocast'),
    [
        ((5,), torch.float32, False),
        ((2, 3, 5), torch.float64, False),
        ((2, 3, 5), torch.bfloat16, False),
        ((2, 3, 5), torch.float32, True),
    ],
)
def test_anything_else_stays_with_torch(shape, dtype, autocast):
    x, weight, bias = inputs(shape, dtype)
    assert products([x, weight, bias], autocast) == 0
    assert products([x, weight[0]], autocast) == 0  # a row without its dimension
