from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmpretrain.registry import METRICS
from torch import Tensor

from .samples import required


@dataclass(frozen=True)
class ImageOrder:
    """Of one image: how many patches, and how many of them are at their own position."""

    patches: int
    restored: float
    shuffled: float


@METRICS.register_module()
class SortingMetric(BaseMetric):
    """How many shuffled patches find back to their own position.

    Every data sample holds ``restored_positions`` and ``shuffled_positions``, whole numbers (L,):
    for each patch, the position that its embedding is nearest to, after the descent and before it;
    patch i belongs at position i. −1 stands for an embedding that is not finite.

    Reported under ``sorting/``, over the patches of all images:

    - ``accuracy``: the share of patches whose restored embedding is nearest to their own position;
      the figure for ``save_best``. NaN where an embedding is not finite;
    - ``accuracy_shuffled``: the same of the shuffled embeddings, close to chance;
    - ``chance``: 1 / L, what guessing gives.

    Args:
        collect_device: ``'cpu'`` or ``'gpu'``, through which processes exchange results.
        prefix: In place of ``sorting``.
        collect_dir: See :class:`mmengine.evaluator.BaseMetric`.
    """

    default_prefix = 'sorting'

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count the right positions of each image.

        Raises:
            ValueError: If a sample lacks its positions, or their shapes are not one (L,).
        """
        for sample in data_samples:
            restored, shuffled = (
                torch.as_tensor(required(sample, key, type(self).__name__))
                for key in ('restored_positions', 'shuffled_positions')
            )
            if restored.ndim != 1 or restored.shape != shuffled.shape or not len(restored):
                raise ValueError(
                    'restored_positions and shuffled_positions must have one shape (L,), L ≥ 1, '
                    f'but got {tuple(restored.shape)} and {tuple(shuffled.shape)}'
                )
            self.results.append(ImageOrder(len(restored), _right(restored), _right(shuffled)))

    def compute_metrics(self, results: list[ImageOrder]) -> dict[str, float]:
        """Sum up the counts of all images; nothing for no image."""
        if not results:
            return {}
        patches = sum(image.patches for image in results)
        return {
            'accuracy': sum(image.restored for image in results) / patches,
            'accuracy_shuffled': sum(image.shuffled for image in results) / patches,
            'chance': len(results) / patches,
        }


def _right(positions: Tensor) -> float:
    """How many patches are at their own position; NaN if one is nowhere."""
    if (positions < 0).any():
        return float('nan')
    own = torch.arange(len(positions), device=positions.device)
    return float((positions == own).sum())
