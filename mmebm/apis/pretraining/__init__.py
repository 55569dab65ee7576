"""From a folder of images to a pretrained backbone, in one call."""

from .run import PretrainingRun, pretrain

__all__ = ['PretrainingRun', 'pretrain']
