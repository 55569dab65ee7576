"""Corruptions: MMCV transforms that turn ``results['img']`` into ``[corrupted, clean]``."""

from .base import BaseCorruption, MixedCorruption
from .beyond_paper import Blur, Fog, FrequencyMask, JPEGCompression, Shuffle
from .degradations import Colorization, GaussianNoise, SuperResolution
from .masking import GriddedMask, RandomBlockMask
