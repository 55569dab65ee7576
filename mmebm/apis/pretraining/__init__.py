"""From a folder of images to a pretrained backbone, in one call."""

from .run import PretrainingRun, follow, pretrain

__all__ = ['PretrainingRun', 'follow', 'pretrain']
