"""Hooks: checks, reports and pictures at fixed points of a run."""

from .finite_loss import FiniteLossHook
from .reproducible_epochs import ReproducibleEpochsHook
from .restoration_visualization import RestorationVisualizationHook
from .unreadable_images import UnreadableImagesHook

__all__ = [
    'FiniteLossHook',
    'ReproducibleEpochsHook',
    'RestorationVisualizationHook',
    'UnreadableImagesHook',
]
