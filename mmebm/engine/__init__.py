"""What MMEngine's runner calls during a run."""

from .hooks import (
    BoundedHistoryHook,
    FiniteLossHook,
    GracefulStopHook,
    MissedValidationHook,
    NeighbourAccuracyHook,
    PretrainedBackboneHook,
    ProgressHook,
    ReproducibleEpochsHook,
    RestorationVisualizationHook,
    SinCosPositionEmbeddingHook,
    UnreadableImagesHook,
)
from .layer_decay import LayerDecayOptimWrapperConstructor
from .optim_wrapper import MixedPrecisionOptimWrapper
from .runner import runner_of

__all__ = [
    'BoundedHistoryHook',
    'FiniteLossHook',
    'GracefulStopHook',
    'LayerDecayOptimWrapperConstructor',
    'MissedValidationHook',
    'MixedPrecisionOptimWrapper',
    'NeighbourAccuracyHook',
    'PretrainedBackboneHook',
    'ProgressHook',
    'ReproducibleEpochsHook',
    'RestorationVisualizationHook',
    'SinCosPositionEmbeddingHook',
    'UnreadableImagesHook',
    'runner_of',
]
