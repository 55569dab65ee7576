from .config_text import parse_config_text
from .restoration import RestorationInferencer, UnreadableImageError, find_images
from .sorting import SortingInferencer

__all__ = [
    'RestorationInferencer',
    'SortingInferencer',
    'UnreadableImageError',
    'find_images',
    'parse_config_text',
]
