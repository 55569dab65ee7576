"""Corruptions: MMCV transforms that turn ``results['img']`` into ``[corrupted, clean]``."""

from .base import BaseCorruption
from .degradations import Colorization, GaussianNoise, SuperResolution
from .masking import GriddedMask, RandomBlockMask
from .mixed import MixedCorruption

__all__ = [
    'BaseCorruption',
    'Colorization',
    'GaussianNoise',
    'GriddedMask',
    'MixedCorruption',
    'RandomBlockMask',
    'SuperResolution',
]
