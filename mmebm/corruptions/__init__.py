"""Corruptions: MMCV transforms that turn ``results['img']`` into ``[corrupted, clean]``."""

from .base import BaseCorruption
from .masking import GriddedMask, RandomBlockMask
from .mixed import MixedCorruption
from .restoration import Colorization, GaussianNoise, SuperResolution

__all__ = [
    'BaseCorruption',
    'Colorization',
    'GaussianNoise',
    'GriddedMask',
    'MixedCorruption',
    'RandomBlockMask',
    'SuperResolution',
]
