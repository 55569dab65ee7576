"""Compare methods; restore, score and sort images; compare features."""

from ..utils.config_text import parse_config_text
from .features import FeatureExtractor, read_config
from .knn import KNNResult, evaluate_knn, extract_features
from .picture_files import Picture, read_picture, save_picture, save_whole, to_bytes, to_image
from .restoration import RestorationInferencer, UnreadableImageError, find_images
from .scoring import ImageScores, score_images
from .sorting import SortingInferencer
from .step_by_step import StepByStep, restore_step_by_step
from .whole_images import (
    Damage,
    Restoration,
    WholeImageRestorer,
    restore_file,
    restore_image,
)

__all__ = [
    'Damage',
    'FeatureExtractor',
    'ImageScores',
    'KNNResult',
    'Picture',
    'Restoration',
    'RestorationInferencer',
    'SortingInferencer',
    'StepByStep',
    'UnreadableImageError',
    'WholeImageRestorer',
    'evaluate_knn',
    'extract_features',
    'find_images',
    'parse_config_text',
    'read_config',
    'read_picture',
    'restore_file',
    'restore_image',
    'restore_step_by_step',
    'save_picture',
    'save_whole',
    'score_images',
    'to_bytes',
    'to_image',
]
