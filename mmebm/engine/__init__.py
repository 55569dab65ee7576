"""What MMEngine's runner calls during a run."""

from .hooks import (
    FiniteLossHook,
    ReproducibleEpochsHook,
    RestorationVisualizationHook,
    SinCosPositionEmbeddingHook,
    UnreadableImagesHook,
)
from .optim_wrapper import MixedPrecisionOptimWrapper

__all__ = [
    'FiniteLossHook',
    'MixedPrecisionOptimWrapper',
    'ReproducibleEpochsHook',
    'RestorationVisualizationHook',
    'SinCosPositionEmbeddingHook',
    'UnreadableImagesHook',
]
