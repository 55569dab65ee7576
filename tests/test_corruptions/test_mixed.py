from collections import Counter

import numpy as np
import pytest
from mmengine import ConfigDict
from mmpretrain.registry import TRANSFORMS

from mmebm.corruptions import Colorization, GaussianNoise, MixedCorruption, SuperResolution

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


def test_probs(small):
    counts = draws(MixedCorruption([GREY, COARSE, NOISE], probs=[0.7, 0, 0.3]), small, 1500)
    assert set(counts) == {'Colorization', 'GaussianNoise'}
    assert abs(counts['Colorization'] - 1050) < 80


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
