from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmpretrain.registry import METRICS

from .samples import required, summaries


@METRICS.register_module()
class EnergyMetric(BaseMetric):
    """How well the energy separates corrupted images (higher) from clean ones (lower).

    Every data sample must hold ``energy_clean`` and ``energy_corrupted``, numbers or one-element
    tensors. If it also holds ``corruption``, a name, the metrics are reported per corruption too.

    Reported under ``energy/`` for all images, and under ``energy/<corruption>/`` for those of one:

    - ``auroc``: the probability that a corrupted image has a higher energy than a clean one, ties
      counting half; 0.5 is chance, 1 is perfect, NaN if an energy is NaN or infinite;
    - ``clean``, ``corrupted``: the mean energies.
    """

    default_prefix = 'energy'

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the energies of each image; ValueError if a sample lacks one."""
        for sample in data_samples:
            clean, corrupted = (
                torch.as_tensor(required(sample, key, type(self).__name__)).detach().item()
                for key in ('energy_clean', 'energy_corrupted')
            )
            self.results.append((sample.get('corruption'), clean, corrupted))

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        """AUROC and mean energies of all images, and per corruption; empty without images."""
        return summaries(results, _summary) if results else {}


def auroc(negative: Sequence[float], positive: Sequence[float]) -> float:
    """Area under the ROC curve of scores that should be low for negatives, high for positives.

    In [0, 1], or NaN if a score is NaN or infinite; there is at least one of each.
    """
    from sklearn.metrics import roc_auc_score  # takes a second, which not every start should pay

    scores = np.concatenate([negative, positive])
    if not np.isfinite(scores).all():
        return float('nan')
    labels = np.concatenate([np.zeros(len(negative)), np.ones(len(positive))])
    # Not torchmetrics: it passes scores outside 0..1 through a sigmoid, which saturates into ties.
    return float(roc_auc_score(labels, scores))


def _summary(images: Sequence[tuple[str | None, float, float]]) -> dict[str, float]:
    clean, corrupted = np.array([energies for _, *energies in images]).T
    means = dict(clean=float(clean.mean()), corrupted=float(corrupted.mean()))
    return dict(auroc=auroc(clean, corrupted)) | means
