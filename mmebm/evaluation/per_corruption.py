"""Restoration metrics for each corruption of a mixture."""

from collections.abc import Mapping
from typing import Any

from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from .restoration_metric import RestorationMetric


def loaders_per_corruption(dataloader: Mapping[str, Any], seed: int = 0) -> dict[str, DataLoader]:
    """Split the loader of a mixture into one loader per corruption, each over all images.

    Args:
        dataloader: config of a loader whose pipeline has a ``MixedCorruption``.
        seed: of the corruptions, ≥ 0.

    Returns:
        Type of the corruption → loader, in the order of the mixture.

    Raises:
        ValueError: the pipeline has no ``MixedCorruption``.
    """
    pipeline = dataloader['dataset']['pipeline']
    mixture = next((transform for transform in pipeline if 'corruptions' in transform), None)
    if mixture is None:
        types = ', '.join(str(transform['type']) for transform in pipeline)
        raise ValueError(f'the pipeline must have a MixedCorruption, got {types}')
    loaders = {}
    for corruption in mixture['corruptions']:
        alone = [
            dict(**corruption, seed=seed) if transform is mixture else transform
            for transform in pipeline
        ]
        config = ConfigDict(dataloader)
        config.dataset = dict(config.dataset, pipeline=alone)
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            loaders[corruption['type']] = Runner.build_dataloader(config)
    return loaders


def metrics_per_corruption(
    model: nn.Module, loaders: Mapping[str, DataLoader]
) -> dict[str, dict[str, float]]:
    """PSNR and SSIM of restored and of corrupted images, by corruption.

    Args:
        model: an algorithm that restores, in evaluation mode.
        loaders: name → loader, such as those of :func:`loaders_per_corruption`.

    Returns:
        Name → what :class:`RestorationMetric` reports, under ``restoration/``.
    """
    metrics = {}
    for name, loader in loaders.items():
        metric = RestorationMetric()
        for batch in loader:
            metric.process(batch, [sample.to_dict() for sample in model.val_step(batch)])
        metrics[name] = metric.evaluate(len(loader.dataset))
    return metrics
