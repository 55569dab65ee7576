"""Hooks: checks, reports and pictures at fixed points of a run."""

from .finite_loss import FiniteLossHook
from .long_runs import BoundedHistoryHook, GracefulStopHook, MissedValidationHook
from .neighbour_accuracy import NeighbourAccuracyHook
from .pretrained_backbone import PretrainedBackboneHook, check_pretrained_backbone
from .progress import ProgressHook
from .reproducible_epochs import ReproducibleEpochsHook
from .restoration_visualization import RestorationVisualizationHook
from .sincos_position_embedding import SinCosPositionEmbeddingHook
from .unreadable_images import UnreadableImagesHook
