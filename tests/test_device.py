"""What runs on a device gives what float64 on the CPU gives.

MMEBM_DEVICE names the device. Without it, it is the CPU, so that every test of this file runs here.
"""

import copy
import os

import pytest
import torch

from mmebm import EnergyRestorationAlgorithm, EnergySortingAlgorithm
from tests.zero_head import SIZE, VIT

DEVICE = torch.device(os.environ.get('MMEBM_DEVICE', 'cpu'))
BATCH = 4

pytestmark = pytest.mark.cuda


def network(kind=EnergyRestorationAlgorithm, **options):
    torch.manual_seed(0)
    head = dict(type='EnergyHead', in_channels=16)
    backbone = VIT | dict(arch=VIT['arch'] | dict(num_layers=2))
    model = kind(backbone=backbone, head=head, step_size=30.0, num_steps=2, **options)
    model.init_weights()
    return model.train()


def batch():
    generator = torch.Generator().manual_seed(1)
    return list(torch.randn(2, BATCH, 3, SIZE, SIZE, generator=generator))


@pytest.fixture(autouse=True)
def same_draws(monkeypatch):
    """Random numbers that do not depend on the device or the type."""
    if not torch.compiler.is_compiling():
        rand = torch.rand

        def drawn(*size, device=None, **_):
            return rand(*size, generator=torch.Generator().manual_seed(2)).to(device)

        monkeypatch.setattr(torch, 'rand', drawn)


def derivatives(model, inputs, device, dtype=None, scale=1.0):
    """The losses of a step and the gradients of all parameters, on the CPU in float64."""
    model = copy.deepcopy(model).to(device)
    inputs = [image.to(device) for image in inputs]
    with torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None):
        losses = model(inputs, mode='loss')
    (losses['loss'] * scale).backward()
    found = {name: value.detach().double().cpu() for name, value in losses.items()}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            found[f'gradient of {name}'] = parameter.grad.double().cpu() / scale
    return found


def assert_close(found, expected, tolerance):
    """Compare in the norm of each tensor, relative to the largest gradient where it is small."""
    assert found.keys() == expected.keys()
    largest = max(v.norm() for name, v in expected.items() if name.startswith('gradient'))
    for name, value in expected.items():
        floor = 1e-2 * largest if name.startswith('gradient') else 1e-6
        error = (found[name] - value).norm() / max(value.norm(), floor)
        assert error < tolerance, f'{name}: {error:.1e}'


PRECISIONS = {'float32': (None, 1e-4), 'bfloat16': (torch.bfloat16, 5e-2)}
PRECISIONS['float16'] = torch.float16, 1e-2


def check(model, inputs, precision):
    dtype, tolerance = PRECISIONS[precision]
    reference = copy.deepcopy(model).double()
    reference.compile_step = False
    exact = [image.double() for image in inputs]
    expected = derivatives(reference, exact, torch.device('cpu'))
    assert sum('gradient' in name for name in expected) > 10
    scale = 2.0**10 if precision == 'float16' else 1.0
    assert_close(derivatives(model, inputs, DEVICE, dtype, scale), expected, tolerance)


@pytest.mark.parametrize('precision', PRECISIONS)
@pytest.mark.parametrize('options', [{}, dict(patch_drop_ratio=0.5)], ids=['eager', 'dropout'])
def test_restoration(options, precision):
    check(network(**options), batch(), precision)


@pytest.mark.parametrize('precision', PRECISIONS)
def test_sorting(precision):
    check(network(EnergySortingAlgorithm, edge_widths=(0, 1)), batch()[:1], precision)


@pytest.mark.slow
@pytest.mark.skipif(
    'MMEBM_DEVICE' not in os.environ, reason='test_compiled_step does so on the CPU'
)
@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
def test_compiled(precision):
    check(network(compile_step=True), batch(), precision)


def test_restoring():
    """The chain of a trained network, in float32."""
    model = network().eval()
    images = batch()[0]
    expected = copy.deepcopy(model).double().restore(images.double())
    chain = copy.deepcopy(model).to(DEVICE).restore(images.to(DEVICE))
    torch.testing.assert_close(chain.double().cpu(), expected, rtol=1e-4, atol=1e-4)
