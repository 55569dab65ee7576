from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmpretrain.registry import METRICS

from .samples import required


@METRICS.register_module()
class SortingMetric(BaseMetric):
    """How many patches are put in their place.

    Every data sample holds ``pred_positions`` and ``gt_positions``, integers ``(L,)``.

    Reported under ``sorting/``:

    - ``accuracy``: the share of patches whose position is predicted right, in [0, 1];
    - ``chance``: 1 / L, what guessing reaches.

    Args:
        collect_device: ``'cpu'`` or ``'gpu'``, through which processes exchange results.
        prefix: In place of ``sorting``.
        collect_dir: See :class:`mmengine.evaluator.BaseMetric`.
    """

    default_prefix = 'sorting'

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep how many patches of each image are in their place.

        Raises:
            ValueError: If a sample lacks positions or their shapes differ.
        """
        for sample in data_samples:
            predicted, true = (
                torch.as_tensor(required(sample, key, type(self).__name__))
                for key in ('pred_positions', 'gt_positions')
            )
            if predicted.shape != true.shape or not true.numel():
                raise ValueError(
                    'SortingMetric needs pred_positions and gt_positions of one length > 0, but '
                    f'got {tuple(predicted.shape)} and {tuple(true.shape)}'
                )
            self.results.append(((predicted == true).sum().item(), true.numel()))

    def compute_metrics(self, results: list[tuple[int, int]]) -> dict[str, float]:
        """Average over all patches of all images; nothing for no image."""
        if not results:
            return {}
        patches = sum(total for _, total in results)
        return {
            'accuracy': sum(right for right, _ in results) / patches,
            'chance': len(results) / patches,
        }
