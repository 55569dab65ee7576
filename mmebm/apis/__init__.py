"""Pretrain a backbone on a folder."""

from .pretraining import PretrainingRun, pretrain

__all__ = ['PretrainingRun', 'pretrain']
