"""Pretrain, and compare methods; restore, score and sort images; compare features."""

from ..utils.config_text import parse_config_text
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


def __getattr__(name: str):
    if name in ('PretrainingRun', 'pretrain'):  # import timm, which is slow
        from . import pretraining

        return getattr(pretraining, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


__all__ = [
    'Damage',
    'ImageScores',
    'Picture',
    'PretrainingRun',
    'Restoration',
    'RestorationInferencer',
    'SortingInferencer',
    'StepByStep',
    'UnreadableImageError',
    'WholeImageRestorer',
    'find_images',
    'parse_config_text',
    'pretrain',
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
