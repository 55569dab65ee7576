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


def test_what_changes_nothing_is_drawn_again():
    grey = np.random.default_rng(0).integers(0, 256, (9, 10, 1), dtype=np.uint8).repeat(3, axis=2)
    counts = draws(MixedCorruption([GREY, COARSE, NOISE], probs=[0.6, 0.2, 0.2]), grey, 200)
    assert 'Colorization' not in counts
    assert min(counts.values()) > 60
    corrupted, clean = MixedCorruption([GREY])(dict(img=grey))['img']  # there are no others
    np.testing.assert_array_equal(corrupted, clean)
