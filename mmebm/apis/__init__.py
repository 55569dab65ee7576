from ..utils.config_text import parse_config_text
from .features import FeatureExtractor, read_config
from .restoration import RestorationInferencer, UnreadableImageError, find_images
from .sorting import SortingInferencer

__all__ = [
    'FeatureExtractor',
    'RestorationInferencer',
    'SortingInferencer',
    'UnreadableImageError',
    'find_images',
    'parse_config_text',
    'read_config',
]
