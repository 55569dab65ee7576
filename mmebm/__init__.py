"""mmebm: energy-based self-supervised pretraining for MMPretrain.

The way of the data, one stage per folder:

1. ``corruptions``    an image becomes ``[corrupted, clean]``
2. ``models``         the energy ``E(x)``, its descent, the loss over the chain
3. ``engine``         hooks and optimizer parts that MMEngine's runner calls
4. ``evaluation``     PSNR, SSIM, AUROC, sorting accuracy of what the descent restored
5. ``apis``           restore and score images with a trained network

``datasets`` finds and loads the images, ``visualization`` draws the chains. Importing this package
registers everything in MMPretrain's registries.
"""

# ruff: noqa: E402
from ._compat import check_versions, installed_versions

check_versions(installed_versions())  # before anything below fails on what is missing or too old

from .apis import RestorationInferencer, SortingInferencer
from .corruptions import (
    BaseCorruption,
    Colorization,
    GaussianNoise,
    GriddedMask,
    MixedCorruption,
    RandomBlockMask,
    SuperResolution,
)
from .datasets import ImageFolder
from .engine import (
    FiniteLossHook,
    MixedPrecisionOptimWrapper,
    ReproducibleEpochsHook,
    RestorationVisualizationHook,
    SinCosPositionEmbeddingHook,
    UnreadableImagesHook,
)
from .evaluation import EnergyMetric, RestorationMetric, SortingMetric
from .models import (
    EnergyHead,
    EnergyRestorationAlgorithm,
    EnergySortingAlgorithm,
    descend,
    descent_step,
    energy_gradient,
)
from .version import __version__

__all__ = [
    'BaseCorruption',
    'Colorization',
    'EnergyHead',
    'EnergyMetric',
    'EnergyRestorationAlgorithm',
    'EnergySortingAlgorithm',
    'FiniteLossHook',
    'GaussianNoise',
    'GriddedMask',
    'ImageFolder',
    'MixedCorruption',
    'MixedPrecisionOptimWrapper',
    'RandomBlockMask',
    'ReproducibleEpochsHook',
    'RestorationInferencer',
    'RestorationMetric',
    'RestorationVisualizationHook',
    'SinCosPositionEmbeddingHook',
    'SortingInferencer',
    'SortingMetric',
    'SuperResolution',
    'UnreadableImagesHook',
    '__version__',
    'descend',
    'descent_step',
    'energy_gradient',
]
