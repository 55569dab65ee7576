"""What MMEngine's runner calls during a run."""

from .hooks import (
    FiniteLossHook,
    PretrainedBackboneHook,
    ReproducibleEpochsHook,
    RestorationVisualizationHook,
    SinCosPositionEmbeddingHook,
    UnreadableImagesHook,
)
from .optim_wrapper import MixedPrecisionOptimWrapper

__all__ = [
    'FiniteLossHook',
    'MixedPrecisionOptimWrapper',
    'PretrainedBackboneHook',
    'ReproducibleEpochsHook',
    'RestorationVisualizationHook',
    'SinCosPositionEmbeddingHook',
    'UnreadableImagesHook',
]
