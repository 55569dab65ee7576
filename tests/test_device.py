"""What runs on a device gives what float64 on the CPU gives.

MMEBM_DEVICE names the device. Without it, it is the CPU, so that every test of this file runs here.
"""

import copy
import os

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmpretrain.registry import MODELS
from PIL import Image

from mmebm import Damage, EnergyRestorationAlgorithm, EnergySortingAlgorithm, Restorer
from mmebm.models.data_preprocessor import add_noise

DEVICE = torch.device(os.environ.get('MMEBM_DEVICE', 'cpu'))
SIZE, PATCH, BATCH = 16, 4, 4

pytestmark = pytest.mark.cuda


def backbone(**options):
    arch = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
    shape = dict(img_size=SIZE, patch_size=PATCH, out_type='avg_featmap', final_norm=False)
    return dict(type='VisionTransformer', arch=arch, **shape, **options)


def network(kind=EnergyRestorationAlgorithm, **options):
    torch.manual_seed(0)
    head = dict(type='EnergyHead', in_channels=16)
    model = kind(backbone=backbone(), head=head, step_size=30.0, num_steps=2, **options)
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


def test_noise():
    """The formula, with standard normal noise, whatever else is in the batch."""
    images = torch.full((3, 3, 64, 64), 2.0, device=DEVICE)
    noise = torch.tensor([[0.25, 7], [1.0, 8], [0.25, 9]], dtype=torch.float64)
    noisy = add_noise(images, noise).double().cpu()
    assert torch.equal(noisy[1], torch.full_like(noisy[1], 2.0))
    for image in noisy[0], noisy[2]:
        epsilon = (image - 0.5 * 2) / 0.75**0.5
        assert abs(epsilon.mean()) < 0.05  # of 12,288 values: 5 standard deviations
        assert abs(epsilon.std() - 1) < 0.04
    assert not torch.equal(noisy[0], noisy[2])
    assert torch.equal(add_noise(images[:1], noise[:1])[0].double().cpu(), noisy[0])


def test_restoring():
    """The chain of a trained network, in float32."""
    model = network().eval()
    images = batch()[0]
    expected = copy.deepcopy(model).double().restore(images.double())
    chain = copy.deepcopy(model).to(DEVICE).restore(images.to(DEVICE))
    torch.testing.assert_close(chain.double().cpu(), expected, rtol=1e-4, atol=1e-4)


@pytest.fixture
def config(tmp_path):
    folder, rng = tmp_path / 'images', np.random.default_rng(0)
    folder.mkdir()
    for index in range(8):
        pixels = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f'{index}.png')
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='GriddedMask', patch_size=PATCH, ratio=0.5),
        dict(type='PackInputs'),
    ]
    return Config(
        dict(
            model=dict(
                type='EnergyRestorationAlgorithm',
                backbone=backbone(drop_path_rate=0.2),
                head=dict(type='EnergyHead', in_channels=16),
                data_preprocessor=dict(
                    type='RestorationDataPreprocessor', mean=[127.5] * 3, std=[64] * 3
                ),
                step_size=30.0,
            ),
            train_dataloader=dict(
                batch_size=4,
                num_workers=0,
                sampler=dict(type='DefaultSampler', shuffle=True),
                collate_fn=dict(type='default_collate'),
                dataset=dict(type='ImageFolder', data_root=str(folder), pipeline=pipeline),
            ),
            optim_wrapper=dict(
                type='MixedPrecisionOptimWrapper', optimizer=dict(type='AdamW', lr=1e-3)
            ),
            custom_hooks=[dict(type='ReproducibleEpochsHook'), dict(type='FiniteLossHook')],
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
            default_scope='mmpretrain',
            randomness=dict(seed=0, deterministic=DEVICE.type == 'cuda'),
            work_dir=str(tmp_path / 'run'),
            experiment_name=tmp_path.name,
        )
    )


def train(config, epochs, **options):
    options = dict(options, train_cfg=dict(by_epoch=True, max_epochs=epochs))
    name = f'{config.experiment_name}{sorted(map(str, options.items()))}'
    runner = Runner.from_cfg(Config({**config, **options, 'experiment_name': name}))
    runner.train()
    return {name: tensor.cpu() for name, tensor in runner.model.state_dict().items()}


@pytest.mark.slow
def test_a_resumed_run(config, tmp_path, monkeypatch):
    monkeypatch.undo()  # the draws are the runner's own
    monkeypatch.setenv('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
    whole = train(config, 2, work_dir=str(tmp_path / 'whole'))
    train(config, 1)
    resumed = train(config, 2, resume=True)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    torch.use_deterministic_algorithms(False)

    image = str(tmp_path / 'images' / '0.png')
    checkpoint = tmp_path / 'run' / 'epoch_2.pth'
    config = Config({**config, 'val_dataloader': config.train_dataloader})  # how to load an image
    chains = []
    for device in 'cpu', str(DEVICE):
        restore = Restorer(checkpoint, config=config, device=device)
        chains.append(restore(restore.crop(image), Damage(corruption=dict(type='Colorization'))))
    first, second = (torch.as_tensor(np.asarray(chain.images)) for chain in chains)
    torch.testing.assert_close(first, second, rtol=1e-3, atol=0.5)


def test_this_is_the_device():
    """MMEngine trains on the device that the other tests name."""
    model = MODELS.build(dict(type='EnergyHead', in_channels=4)).to(DEVICE)
    assert next(model.parameters()).device.type == DEVICE.type
    if DEVICE.type == 'cpu':
        return
    from mmengine.device import get_device

    assert get_device() == DEVICE.type
