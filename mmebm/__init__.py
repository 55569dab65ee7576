"""mmebm: energy-based self-supervised pretraining for MMPretrain.

The way of the data, one stage per folder:

1. ``corruptions``    an image becomes ``[corrupted, clean]``
2. ``models``         the energy ``E(x)``, its descent, the loss over the chain
3. ``engine``         hooks and optimizer parts that MMEngine's runner calls
4. ``evaluation``     metrics of restoring, sorting and energy; nearest neighbours
5. ``apis``           restore, sort and score images, or take features, with a trained network

``datasets`` finds and loads the images, ``visualization`` draws the chains. Importing this package
registers everything in MMPretrain's registries, and the configs in its model hub.
"""

# ruff: noqa: E402
from ._compat import check_versions, installed_versions

check_versions(installed_versions())  # before anything below fails on what is missing or too old

from ._model_index import register_models
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
    LayerDecayOptimWrapperConstructor,
    MixedPrecisionOptimWrapper,
    PretrainedBackboneHook,
    ReproducibleEpochsHook,
    RestorationVisualizationHook,
    SinCosPositionEmbeddingHook,
    UnreadableImagesHook,
)
from .evaluation import EnergyMetric, RestorationMetric, SortingMetric, knn_predict
from .models import (
    EnergyHead,
    EnergyRestorationAlgorithm,
    EnergySortingAlgorithm,
    GroupNormBackbone,
    PositionDecoder,
    RestorationAutoEncoder,
    RestorationDataPreprocessor,
    SortingAutoEncoder,
    descend,
    descent_step,
    energy_gradient,
    load_backbone,
)
from .version import __version__

register_models()

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
    'GroupNormBackbone',
    'ImageFolder',
    'LayerDecayOptimWrapperConstructor',
    'MixedCorruption',
    'MixedPrecisionOptimWrapper',
    'PositionDecoder',
    'PretrainedBackboneHook',
    'RandomBlockMask',
    'ReproducibleEpochsHook',
    'RestorationAutoEncoder',
    'RestorationDataPreprocessor',
    'RestorationInferencer',
    'RestorationMetric',
    'RestorationVisualizationHook',
    'SinCosPositionEmbeddingHook',
    'SortingAutoEncoder',
    'SortingInferencer',
    'SortingMetric',
    'SuperResolution',
    'UnreadableImagesHook',
    '__version__',
    'descend',
    'descent_step',
    'energy_gradient',
    'knn_predict',
    'load_backbone',
]
