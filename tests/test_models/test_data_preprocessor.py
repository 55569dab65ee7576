"""Noise that the data preprocessor adds on the device."""

import functools

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, default_collate, worker_init_fn
from mmpretrain.registry import MODELS, TRANSFORMS

from mmebm.models.base_algorithm import corrupted_and_clean
from mmebm.models.data_preprocessor import add_noise

MEAN, STD = [10.0, 120.0, 200.0], [2.0, 30.0, 50.0]
NOISE = dict(type='GaussianNoise', on_device=True)
MIXTURE = dict(
    type='MixedCorruption',
    corruptions=[dict(type='Colorization'), dict(type='GaussianNoise', gamma_range=(0.2, 0.6))],
    on_device=True,
)


def test_one_channel_keeps_the_noise_of_one():
    batch = [torch.randint(0, 256, (2, 3, 4, 5)) for _ in range(2)]
    data = preprocess(
        dict(inputs=batch, data_samples=None), mean=[120], std=[30], channel=1, to_rgb=False
    )
    for found, x in zip(data['inputs'], batch, strict=True):
        torch.testing.assert_close(found, (x[:, 1:2] - 120) / 30)


class Photos(BaseDataset):
    """Twelve seeded images (40, 56, 3) without files."""

    def load_data_list(self):
        images = np.random.default_rng(5).integers(0, 256, (12, 40, 56, 3), dtype=np.uint8)
        return [dict(img=image) for image in images]


def photos(corruption):
    pack = dict(type='PackInputs', meta_keys=('sample_idx', 'corruption'))
    return Photos(pipeline=[TRANSFORMS.build(corruption), TRANSFORMS.build(pack)])


def preprocess(batch, kind='RestorationDataPreprocessor', **options):
    return MODELS.build(dict(type=kind, **{**dict(mean=MEAN, std=STD, to_rgb=True), **options}))(
        batch
    )


def load(dataset, seed=0, num_workers=2, batch_size=3):
    init = functools.partial(worker_init_fn, num_workers=num_workers, rank=0, seed=seed)
    loader = torch.utils.data.DataLoader(
        dataset,
        batch_size,
        num_workers=num_workers,
        collate_fn=default_collate,
        worker_init_fn=init,
    )
    return list(loader)


def test_formula():
    """An independent ``√γ x + √(1−γ) ε``, ε from a generator of the image's own seed."""
    images = torch.randn(3, 3, 20, 30)
    before = images.clone()
    noise = torch.tensor([[0.36, 5], [1, 7], [0, 2**32 - 1]], dtype=torch.float64)
    result = add_noise(images, noise)
    assert torch.equal(images, before)
    epsilon = torch.randn(3, 20, 30, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(result[0], 0.6 * before[0] + 0.8 * epsilon)
    assert torch.equal(result[1], before[1])
    epsilon = torch.randn(3, 20, 30, generator=torch.Generator().manual_seed(2**32 - 1))
    torch.testing.assert_close(result[2], epsilon)
    assert torch.equal(add_noise(images[2:], noise[2:]), result[2:])  # independent of the batch


@pytest.mark.parametrize('corruption', [NOISE, MIXTURE], ids=['noise', 'mixture'])
def test_only_uint8_crosses_process_borders(corruption):
    dataset = photos(corruption)
    for batch in load(dataset):
        corrupted, clean, noise = batch['inputs']
        assert corrupted.dtype == clean.dtype == torch.uint8
        assert corrupted.shape == clean.shape == (3, 3, 40, 56)
        assert noise.shape == (3, 2)
        for i, sample in enumerate(batch['data_samples']):
            is_noise = sample.corruption == 'GaussianNoise'
            assert (noise[i, 0] < 1) == is_noise
            assert torch.equal(corrupted[i], clean[i]) == is_noise
        data = preprocess(batch)
        assert len(data['inputs']) == 2
        assert len(data['data_samples']) == 3
        assert (data['inputs'][0] != data['inputs'][1]).flatten(1).any(1).all()


@pytest.mark.parametrize('options', [{}, dict(to_rgb=False), dict(mean=None, std=None)])
@pytest.mark.parametrize('corruption', [NOISE, MIXTURE], ids=['noise', 'mixture'])
def test_noise_cannot_be_lost(corruption, options):
    """Whatever ``PackInputs`` keeps, a preprocessor adds it or the run stops."""
    pack = TRANSFORMS.build(dict(type='PackInputs', meta_keys=()))
    dataset = Photos(pipeline=[TRANSFORMS.build(corruption), pack])
    (batch,) = load(dataset, num_workers=0, batch_size=12)
    with pytest.raises((IndexError, TypeError)):  # MMPretrain's preprocessor, or our algorithms
        corrupted_and_clean(preprocess(batch, 'SelfSupDataPreprocessor', **options)['inputs'])
    if 'mean' not in options:
        corrupted, clean = corrupted_and_clean(preprocess(batch, **options)['inputs'])
        assert (corrupted != clean).flatten(1).any(1).all()
        with pytest.raises(ValueError, match='needs mean and std to add the noise'):
            preprocess(batch, mean=None, std=None)


@pytest.mark.parametrize('corruption', [dict(type='Colorization'), dict(type='GaussianNoise')])
def test_without_noise_left_as_mmpretrains_own(corruption):
    for batch in load(photos(corruption), num_workers=0):
        ours, theirs = (
            preprocess(batch, kind)['inputs']
            for kind in ('RestorationDataPreprocessor', 'SelfSupDataPreprocessor')
        )
        assert all(torch.equal(x, y) for x, y in zip(ours, theirs, strict=True))
        single = dict(inputs=batch['inputs'][1], data_samples=batch['data_samples'])
        assert torch.equal(preprocess(single)['inputs'], theirs[1])


@pytest.mark.parametrize('config', [NOISE, MIXTURE], ids=['noise', 'mixture'])
def test_options_are_checked(config):
    with pytest.raises(ValueError, match=r'on_device=True must have seed=None.* got seed=0'):
        TRANSFORMS.build(dict(**config, seed=0))
    with pytest.raises(TypeError, match=r'on_device must be True or False, got 1'):
        TRANSFORMS.build({**config, 'on_device': 1})
