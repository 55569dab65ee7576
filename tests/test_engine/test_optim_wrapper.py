"""Half precision follows float32."""

import pytest
import torch
from mmpretrain.registry import OPTIM_WRAPPERS

from mmebm.engine import MixedPrecisionOptimWrapper, optim_wrapper
from tests.backbones import build_algorithm

ITERATIONS = 30


def losses(wrapper: dict) -> list[float]:
    """Loss of each iteration of a short run on smooth images with noise."""
    model = build_algorithm(head_std=0.0, step_size=300.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    wrapper = OPTIM_WRAPPERS.build(dict(**wrapper, optimizer=optimizer))
    wrapper.initialize_count_status(model, 0, ITERATIONS)
    generator = torch.Generator().manual_seed(0)
    out = []
    for _ in range(ITERATIONS):
        small = torch.rand(8, 3, 4, 4, generator=generator) * 255
        clean = torch.nn.functional.interpolate(small, size=32, mode='bilinear')
        corrupted = clean + 60 * torch.randn(clean.shape, generator=generator)
        batch = dict(inputs=[corrupted, clean], data_samples=None)
        out.append(model.train_step(batch, wrapper)['loss'].item())
    return out


@pytest.fixture(scope='module')
def float32_losses():
    return losses(dict(type='OptimWrapper'))


@pytest.mark.slow
@pytest.mark.parametrize(
    'options',
    [dict(dtype='bfloat16'), dict(dtype='float16', loss_scale=256)],
)
def test_half_precision_stays_within_two_percent(float32_losses, options):
    half = losses(dict(type='MixedPrecisionOptimWrapper', **options))
    assert float32_losses[-1] < 0.9 * float32_losses[0]  # float32 learns something
    deviation = [abs(a - b) / b for a, b in zip(half, float32_losses, strict=True)]
    assert max(deviation) < 0.02
    assert half != float32_losses


@pytest.mark.parametrize(
    ('device', 'native', 'expected'),
    [
        ('cpu', True, 'bfloat16'),
        ('cpu', False, 'float32'),
        ('cuda', True, 'bfloat16'),
        ('cuda', False, 'float16'),
    ],
)
def test_default_is_what_the_device_is_fast_in(device, native, expected, monkeypatch):
    monkeypatch.setattr(optim_wrapper, '_cpu_has_bfloat16', lambda: native)
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda: native)
    assert optim_wrapper.default_dtype(device) == expected


@pytest.mark.parametrize('scale', [0.0, float('inf'), float('nan')])
def test_a_loss_scale_that_no_step_survives_is_not_stored(scale):
    parameter = torch.nn.Parameter(torch.ones(1))
    options = dict(dtype='float16', loss_scale=dict(init_scale=512.0))
    wrapper = MixedPrecisionOptimWrapper(optimizer=torch.optim.SGD([parameter], 0.1), **options)
    wrapper.loss_scaler.scale(torch.ones(()))
    wrapper.loss_scaler.update(scale)
    assert wrapper.state_dict()['loss_scaler']['scale'] == 512.0


def test_the_learning_rate_that_is_logged_is_that_of_most_parameters():
    small, large = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(9))
    groups = [dict(params=[small], lr=1.0), dict(params=[large], lr=0.1)]
    wrapper = MixedPrecisionOptimWrapper(optimizer=torch.optim.SGD(groups, 0.1), dtype='float32')
    assert wrapper.get_lr()['lr'] == [0.1, 1.0]
