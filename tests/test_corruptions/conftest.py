import numpy as np
import pytest
from mmpretrain.registry import TRANSFORMS

import mmebm.corruptions  # noqa: F401  registers the corruptions

# One of every kind, with the paper's numbers if it has any.
EVERY_CORRUPTION = [
    dict(type='GriddedMask', patch_size=16, ratio=0.5),
    dict(type='RandomBlockMask', num_blocks=75, area_range=(0.01, 0.025), aspect_range=(0.5, 2.0)),
    dict(type='RandomBlockMask', num_blocks=25, area_range=(0.02, 0.05), aspect_range=(0.5, 2.0)),
    dict(type='SuperResolution', scale=12),
    dict(type='SuperResolution', scale=8, antialias=False),
    dict(type='GaussianNoise'),
    dict(type='Colorization'),
    dict(type='Blur', sigma_range=(0.5, 3.0)),
    dict(type='JPEGCompression', quality_range=(5, 60)),
    dict(type='FrequencyMask', low_range=(0.05, 0.25), width=0.2),
    dict(type='Shuffle', patch_size=8),
    dict(type='Fog'),
]
MIXTURE = dict(type='MixedCorruption', corruptions=EVERY_CORRUPTION)
# Those whose result depends on the random numbers.
RANDOM_CORRUPTIONS = [EVERY_CORRUPTION[i] for i in (0, 1, 2, 5, 7, 8, 9, 10, 11)] + [MIXTURE]


def build(config, **options):
    """Build a corruption from its config."""
    return TRANSFORMS.build({**config, **options})


def name_of(config):
    """Id of a parametrised case."""
    return '-'.join(str(v) for k, v in config.items() if k != 'corruptions')


@pytest.fixture
def image():
    """A seeded image (H, W, 3) uint8, neither square nor a multiple of any patch size."""
    return np.random.default_rng(0).integers(0, 256, (45, 67, 3), dtype=np.uint8)
