"""From a folder of images to a pretrained backbone, in one call."""

from .run import PretrainingRun, follow, lead, pretrain

__all__ = ['PretrainingRun', 'follow', 'lead', 'pretrain']
