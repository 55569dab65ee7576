from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmpretrain.registry import METRICS

from ..models.chain import heat_map
from ..utils import checked_bool
from .samples import by_corruption, required


@dataclass(frozen=True)
class ImageEnergies:
    """The energies of one image, clean and corrupted.

    Attributes:
        corruption: its name, or None.
        clean, corrupted: the energies.
        heat: where the descent changes the corrupted image, ``(H, W)`` float32 in grey levels: see
            :func:`mmebm.models.chain.heat_map`. None if it is not wanted.
    """

    corruption: str | None
    clean: float
    corrupted: float
    heat: np.ndarray | None = None


@METRICS.register_module()
class EnergyMetric(BaseMetric):
    """How well the energy separates corrupted images (higher) from clean ones (lower).

    Every data sample must hold ``energy_clean`` and ``energy_corrupted``, numbers or one-element
    tensors. If it also holds ``corruption``, a name, the metrics are reported per corruption too.

    Reported under ``energy/`` for all images, and under ``energy/<corruption>/`` for those of one:

    - ``auroc``: the probability that a corrupted image has a higher energy than a clean one, ties
      counting half; 0.5 is chance, 1 is perfect, NaN if an energy is NaN or infinite;
    - ``clean``, ``corrupted``: the mean energies.

    The energies of each image are in ``images`` afterwards, in the first process.

    Args:
        heat: Whether ``images`` also hold a map of where each image is unlikely, from the fields
            ``corrupted`` and ``restored``, (C, H, W) in pixel units. Takes 4 bytes per pixel.
        collect_device: ``'cpu'`` or ``'gpu'``: where processes exchange their results.
        prefix: Replaces ``energy``.
        collect_dir: See :class:`mmengine.evaluator.BaseMetric`.

    Attributes:
        images: :class:`ImageEnergies` of the last evaluation, in the order of the data set.

    Raises:
        TypeError: ``heat`` is not a bool.
    """

    default_prefix = 'energy'

    def __init__(
        self,
        heat: bool = False,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        collect_dir: str | None = None,
    ):
        super().__init__(collect_device, prefix, collect_dir)
        self.heat = checked_bool('heat', heat)
        self.images: list[ImageEnergies] = []

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the energies of each image.

        Raises:
            ValueError: If a sample lacks an energy, or an image that the map needs.
        """
        name = type(self).__name__
        for sample in data_samples:
            clean, corrupted = (
                torch.as_tensor(required(sample, key, name)).detach().item()
                for key in ('energy_clean', 'energy_corrupted')
            )
            heat = None
            if self.heat:
                change = required(sample, 'restored', name) - required(sample, 'corrupted', name)
                heat = heat_map(change.detach().float().permute(1, 2, 0).cpu().numpy())
            self.results.append(ImageEnergies(sample.get('corruption'), clean, corrupted, heat))

    def compute_metrics(self, results: list[ImageEnergies]) -> dict[str, float]:
        """AUROC and mean energies of all images, and per corruption; empty without images."""
        self.images = list(results)
        if not results:
            return {}
        metrics = _summary(results)
        for corruption, images in by_corruption(results).items():
            if corruption is not None:
                metrics |= {f'{corruption}/{name}': v for name, v in _summary(images).items()}
        return metrics


def auroc(negative: Sequence[float], positive: Sequence[float]) -> float:
    """Area under the ROC curve of scores that should be low for negatives, high for positives.

    Args:
        negative, positive: Scores, at least one of each.

    Returns:
        A value in [0, 1], or NaN if a score is NaN or infinite.
    """
    from sklearn.metrics import roc_auc_score  # takes a second, which not every start should pay

    scores = np.concatenate([negative, positive])
    if not np.isfinite(scores).all():
        return float('nan')
    labels = np.concatenate([np.zeros(len(negative)), np.ones(len(positive))])
    # Not torchmetrics: it passes scores outside 0..1 through a sigmoid, which saturates into ties.
    return float(roc_auc_score(labels, scores))


def _summary(images: Sequence[ImageEnergies]) -> dict[str, float]:
    clean = [image.clean for image in images]
    corrupted = [image.corrupted for image in images]
    return {
        'auroc': auroc(clean, corrupted),
        'clean': float(np.mean(clean)),
        'corrupted': float(np.mean(corrupted)),
    }
