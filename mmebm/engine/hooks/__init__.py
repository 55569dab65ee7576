"""Hooks: checks, reports and pictures at fixed points of a run."""

from .finite_loss import FiniteLossHook
from .missed_validation import MissedValidationHook
from .pretrained_backbone import PretrainedBackboneHook, check_pretrained_backbone
from .report import ReportHook
from .reproducible_epochs import ReproducibleEpochsHook
from .restoration_visualization import RestorationVisualizationHook
from .sincos_position_embedding import SinCosPositionEmbeddingHook
from .unreadable_images import UnreadableImagesHook

__all__ = [
    'FiniteLossHook',
    'MissedValidationHook',
    'PretrainedBackboneHook',
    'ReportHook',
    'ReproducibleEpochsHook',
    'RestorationVisualizationHook',
    'SinCosPositionEmbeddingHook',
    'UnreadableImagesHook',
    'check_pretrained_backbone',
]
