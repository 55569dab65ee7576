from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmpretrain.registry import METRICS
from torch import Tensor

from .samples import required


@METRICS.register_module()
class SortingMetric(BaseMetric):
    """How many shuffled patches return to their own position.

    Every data sample must hold ``restored_positions``, integers (L,): for each patch, the position
    whose embedding is nearest after the descent, or that an auto-encoder predicts. Patch i belongs
    at position i; −1 stands for an embedding that is not finite. After a descent it also holds
    ``shuffled_positions``, the same before the descent.

    Reported under ``sorting/``, over the patches of all images:

    - ``accuracy``: the share of patches at their own position, in [0, 1]; the metric for
      ``save_best``. NaN if an embedding is not finite;
    - ``accuracy_shuffled``: the same before the descent, close to chance; absent without a descent;
    - ``chance``: the accuracy of guessing, 1 / L.
    """

    default_prefix = 'sorting'

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count the patches of each image that are at their own position."""
        for sample in data_samples:
            restored = torch.as_tensor(required(sample, 'restored_positions', type(self).__name__))
            shuffled = torch.as_tensor(sample.get('shuffled_positions', restored))
            if restored.ndim != 1 or restored.shape != shuffled.shape or not len(restored):
                raise ValueError(
                    'restored_positions and shuffled_positions must have one shape (L,), L ≥ 1, '
                    f'but got {tuple(restored.shape)} and {tuple(shuffled.shape)}'
                )
            before = _in_place(shuffled) if 'shuffled_positions' in sample else None
            self.results.append((len(restored), _in_place(restored), before))

    def compute_metrics(self, results: list[tuple[int, float, float | None]]) -> dict[str, float]:
        """Accuracies over all images; empty without images."""
        if not results:
            return {}
        patches, restored, shuffled = zip(*results, strict=True)
        total = sum(patches)
        metrics = {'accuracy': sum(restored) / total, 'chance': len(results) / total}
        if None not in shuffled:
            metrics['accuracy_shuffled'] = sum(shuffled) / total
        return metrics


def _in_place(positions: Tensor) -> float:
    """How many patches are at their own position; NaN if a position is −1."""
    if (positions < 0).any():
        return float('nan')
    return float((positions == torch.arange(len(positions), device=positions.device)).sum())
