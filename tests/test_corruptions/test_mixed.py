from collections import Counter

import numpy as np
import pytest
import torch
from mmengine import ConfigDict
from mmengine.dataset import default_collate
from mmpretrain.registry import TRANSFORMS

from mmebm.corruptions import Colorization, GaussianNoise, MixedCorruption, SuperResolution

from .conftest import EVERY_CORRUPTION

GREY = dict(type='Colorization')
COARSE = dict(type='SuperResolution', scale=8)
NOISE = dict(type='GaussianNoise')


def draws(mixture, image, count):
    """Count the corruptions drawn for ``count`` images."""
    np.random.seed(0)
    return Counter(mixture(dict(img=image))['corruption'] for _ in range(count))


@pytest.fixture
def small():
    return np.random.default_rng(0).integers(0, 256, (9, 10, 3), dtype=np.uint8)


def test_uniform_by_default(small):
    counts = draws(MixedCorruption([GREY, COARSE, NOISE]), small, 1500)
    assert set(counts) == {'Colorization', 'SuperResolution', 'GaussianNoise'}
    assert all(abs(n - 500) < 80 for n in counts.values())  # 4.4 standard deviations


def test_probs(small):
    counts = draws(MixedCorruption([GREY, COARSE, NOISE], probs=[0.7, 0, 0.3]), small, 1500)
    assert set(counts) == {'Colorization', 'GaussianNoise'}
    assert abs(counts['Colorization'] - 1050) < 80


def test_name_is_that_of_the_corruption_applied(small):
    mixture = MixedCorruption([GREY, COARSE], seed=0)
    for index in range(20):
        results = mixture(dict(img=small, sample_idx=index))
        corrupted = results['img'][0]
        is_grey = np.ptp(corrupted, axis=2).max() == 0
        assert results['corruption'] == ('Colorization' if is_grey else 'SuperResolution')


@pytest.mark.parametrize(
    ('corruptions', 'dtype'),
    [([GREY, COARSE], torch.uint8), (EVERY_CORRUPTION, torch.float32), ([NOISE], torch.float32)],
)
def test_batches_stack(corruptions, dtype, image):
    mixture = MixedCorruption(corruptions)
    pack = TRANSFORMS.build(dict(type='PackInputs'))
    np.random.seed(0)
    batch = default_collate([pack(mixture(dict(img=image))) for _ in range(24)])
    corrupted, clean = batch['inputs']
    assert corrupted.shape == clean.shape == (24, 3, 45, 67)
    assert corrupted.dtype == dtype
    assert clean.dtype == torch.uint8


def test_float32_does_not_change_the_values(small):
    mixture = MixedCorruption([GREY, NOISE], probs=(1, 0))
    corrupted = mixture(dict(img=small))['img'][0]
    assert corrupted.dtype == np.float32
    np.testing.assert_array_equal(corrupted, Colorization()(dict(img=small))['img'][0])


def test_mixture_of_mixtures(small):
    inner = dict(type='MixedCorruption', corruptions=[COARSE, NOISE], probs=[0.5, 0.5])
    mixture = MixedCorruption([GREY, inner])
    assert mixture.dtype is np.float32
    counts = draws(mixture, small, 800)
    assert abs(counts['Colorization'] - 400) < 65
    assert abs(counts['SuperResolution'] - 200) < 55
    assert abs(counts['GaussianNoise'] - 200) < 55


def test_configs_instances_and_classes(small):
    config = ConfigDict(
        type='MixedCorruption',
        corruptions=[dict(type='mmpretrain.Colorization'), dict(type=SuperResolution, scale=2)],
    )
    mixture = TRANSFORMS.build(config)
    assert [type(c) for c in mixture.corruptions] == [Colorization, SuperResolution]
    assert config.corruptions[0].type == 'mmpretrain.Colorization'  # the config is not modified
    noise = GaussianNoise((0.5, 0.5))
    assert MixedCorruption((noise,)).corruptions[0] is noise


def test_corrupt_can_be_called_directly(small):
    mixture = MixedCorruption([GREY, NOISE], probs=(1, 0))
    corrupted = mixture.corrupt(small, np.random.default_rng(0))
    assert corrupted.dtype == np.float32


def test_unknown_name_lists_the_known_ones():
    known = 'Blur, Colorization, Fog, FrequencyMask, GaussianNoise, GriddedMask, JPEGCompression, '
    with pytest.raises(ValueError, match=rf"'Colourisation' in .* not a registered .* {known}"):
        MixedCorruption([GREY, dict(type='Colourisation')])


def test_config_without_type():
    with pytest.raises(ValueError, match=r"None in \{'scale': 3\} is not a registered corruption"):
        MixedCorruption([dict(scale=3)])


@pytest.mark.parametrize('entry', [dict(type='RandomFlip', prob=0.5), dict(type=dict)])
def test_transform_that_is_no_corruption(entry):
    with pytest.raises(TypeError, match='is not a BaseCorruption'):
        MixedCorruption([entry])


@pytest.mark.parametrize('entry', ['Colorization', None, Colorization])
def test_entry_that_is_no_config(entry):
    with pytest.raises(TypeError, match='corruptions must hold configs or corruptions, got'):
        MixedCorruption([entry])


@pytest.mark.parametrize('corruptions', [GREY, 'Colorization', None])
def test_corruptions_that_are_no_list(corruptions):
    with pytest.raises(TypeError, match='corruptions must be a list of corruptions, got'):
        MixedCorruption(corruptions)


def test_empty_list():
    with pytest.raises(ValueError, match='at least one corruption, got an empty list'):
        MixedCorruption([])


def test_seed_of_an_entry():
    with pytest.raises(ValueError, match=r'Colorization\(.*seed=3\) has a seed of its own'):
        MixedCorruption([dict(type='Colorization', seed=3)])


def test_errors_of_an_entry_pass():
    with pytest.raises(ValueError, match='scale must be an integer ≥ 1, got 0'):
        MixedCorruption([dict(type='SuperResolution', scale=0)])


@pytest.mark.parametrize(
    ('probs', 'error', 'message'),
    [
        ([1], ValueError, r'probs must be 2 numbers in 0\.\.1, got \[1\]'),
        ([1.5, -0.5], ValueError, r'probs\[0\] must be a finite number in 0\.\.1, got 1\.5'),
        ([0.5, -0.5], ValueError, r'probs\[1\] must be a finite number in 0\.\.1, got -0\.5'),
        ([0.5, 0.4], ValueError, r'probs must sum to 1, got \[0\.5, 0\.4\]'),
        ([float('nan'), 1], ValueError, r'probs\[0\] must be a finite number in 0\.\.1, got nan'),
        (0.5, TypeError, r'probs must be 2 numbers in 0\.\.1, got 0\.5'),
    ],
)
def test_probs_are_checked(probs, error, message):
    with pytest.raises(error, match=message):
        MixedCorruption([GREY, NOISE], probs=probs)
