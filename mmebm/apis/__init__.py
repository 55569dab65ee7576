"""Pretrain, and compare methods and features."""

from ..utils.config_text import parse_config_text
from .features import FeatureExtractor, read_config
from .knn import KNNResult, evaluate_knn, extract_features


def __getattr__(name: str):
    if name in ('PretrainingRun', 'pretrain'):  # import timm, which is slow
        from . import pretraining

        return getattr(pretraining, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


__all__ = [
    'FeatureExtractor',
    'KNNResult',
    'PretrainingRun',
    'evaluate_knn',
    'extract_features',
    'parse_config_text',
    'pretrain',
    'read_config',
]
