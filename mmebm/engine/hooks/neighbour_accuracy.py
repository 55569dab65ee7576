"""Do nearest neighbours have the same class, in a network pretrained without labels?"""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS
from mmpretrain.structures import DataSample

from ...evaluation.knn import nearest, vote
from ...models.features import pooled_features
from ...utils import checked_int


@HOOKS.register_module()
class NeighbourAccuracyHook(Hook):
    """kNN accuracy of the held-out images at each validation, as ``val/knn/accuracy`` in 0..1.

    Each image is classified by the votes of its nearest neighbours among the other ones, in the
    pooled features of the clean images (see :func:`mmebm.evaluation.vote`). The data samples need a
    ``gt_label`` and an ``img_path``, as an ``ImageFolder`` with ``with_label=True`` gives; of
    several with the same path one counts. No label is trained on.

    Args:
        k: neighbours, ≥ 1; fewer where there are fewer images.
    """

    priority = 'NORMAL'  # after RuntimeInfoHook, before LoggerHook writes the figures

    def __init__(self, k: int = 20):
        self.k = checked_int('k', k, minimum=1)

    def before_val_epoch(self, runner: Runner) -> None:
        self._seen: list[tuple[str, int, torch.Tensor]] = []  # path, label, features (D,)

    @torch.no_grad()
    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence[DataSample] | None = None,
    ) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        inputs = model.data_preprocessor(data_batch, False)['inputs']
        clean = inputs[1] if isinstance(inputs, list | tuple) else inputs
        samples = zip(data_batch['data_samples'], pooled_features(model, clean).cpu(), strict=True)
        self._seen += [(sample.img_path, int(sample.gt_label), f) for sample, f in samples]

    def after_val_epoch(self, runner: Runner, metrics: dict[str, Any] | None = None) -> None:
        """Add the accuracy to the figures of the validation."""
        # once each, though samplers fill the last batch and an unreadable image has a substitute
        seen = {path: rest for part in all_gather_object(self._seen) for path, *rest in part}
        labels, features = zip(*seen.values(), strict=True)
        accuracy = leave_one_out_accuracy(torch.stack(features), torch.tensor(labels), self.k)
        if metrics is not None:
            metrics['knn/accuracy'] = accuracy
        runner.message_hub.update_scalar('val/knn/accuracy', accuracy)


def leave_one_out_accuracy(features: torch.Tensor, labels: torch.Tensor, k: int = 20) -> float:
    """Share of images, in 0..1, whose class most of the k nearest others have.

    Of features ``(B, D)`` and labels ``(B,)``, from 0 on; NaN for fewer than two images, or for
    features that are not finite.
    """
    count = min(k, len(features) - 1)
    if count < 1 or not torch.isfinite(features).all():
        return float('nan')
    similarities, indices = nearest(features, features, count + 1)
    others = indices != torch.arange(len(features))[:, None]
    # Twins are as near as the image itself, which then need not be the first of its neighbours.
    others[others.all(dim=1), -1] = False
    similarities = similarities[others].reshape(len(features), count)
    neighbours = labels[indices[others].reshape(len(features), count)]
    scores = vote(similarities, neighbours, 0.07, int(labels.max()) + 1)
    return (scores.argmax(1) == labels).float().mean().item()
