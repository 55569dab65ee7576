from .config_text import parse_config_text
from .restoration import RestorationInferencer, UnreadableImageError, find_images

__all__ = ['RestorationInferencer', 'UnreadableImageError', 'find_images', 'parse_config_text']
