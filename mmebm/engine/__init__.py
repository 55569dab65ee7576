"""What MMEngine's runner calls during a run."""

from .hooks import (
    FiniteLossHook,
    MissedValidationHook,
    PretrainedBackboneHook,
    ReportHook,
    ReproducibleEpochsHook,
    RestorationVisualizationHook,
    SinCosPositionEmbeddingHook,
    UnreadableImagesHook,
)
from .layer_decay import LayerDecayOptimWrapperConstructor
from .optim_wrapper import MixedPrecisionOptimWrapper

__all__ = [
    'FiniteLossHook',
    'LayerDecayOptimWrapperConstructor',
    'MissedValidationHook',
    'MixedPrecisionOptimWrapper',
    'PretrainedBackboneHook',
    'ReportHook',
    'ReproducibleEpochsHook',
    'RestorationVisualizationHook',
    'SinCosPositionEmbeddingHook',
    'UnreadableImagesHook',
]
