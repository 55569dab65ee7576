from ..utils.config_text import parse_config_text
from .features import FeatureExtractor, read_config
from .knn import KNNResult, evaluate_knn, extract_features
from .restoration import RestorationInferencer, UnreadableImageError, find_images
from .sorting import SortingInferencer

__all__ = [
    'FeatureExtractor',
    'KNNResult',
    'RestorationInferencer',
    'SortingInferencer',
    'UnreadableImageError',
    'evaluate_knn',
    'extract_features',
    'find_images',
    'parse_config_text',
    'read_config',
]
