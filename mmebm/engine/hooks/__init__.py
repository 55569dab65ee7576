"""Hooks: checks, reports and pictures at fixed points of a run."""

from .finite_loss import FiniteLossHook
from .reproducible_epochs import ReproducibleEpochsHook
from .restoration_visualization import RestorationVisualizationHook
from .sincos_position_embedding import SinCosPositionEmbeddingHook
from .unreadable_images import UnreadableImagesHook

__all__ = [
    'FiniteLossHook',
    'ReproducibleEpochsHook',
    'RestorationVisualizationHook',
    'SinCosPositionEmbeddingHook',
    'UnreadableImagesHook',
]
