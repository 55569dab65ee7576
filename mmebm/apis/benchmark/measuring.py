"""What is measured of a network: accuracy when finetuned, and of its frozen features."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmpretrain.registry import DATASETS, MODELS
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ...backbones import set_sincos_position_embedding
from ...datasets.files import find_images
from ...evaluation.backbone_check import channels
from ...evaluation.knn import knn_predict
from ...utils.checkpoint import load_checkpoint_safely
from ...utils.whole_files import WholeFilesBackend
from ..features import FeatureExtractor
from .options import class_folders

NEIGHBOURS = 20
LARGEST_PART, SMALLEST_PART = 0.8, 0.002  # shares of a network's parameters

# Data -------------------------------------------------------------------------------------------


def split_training_images(
    data_root: Path, share: float, seed: int, per_class: int | None = None
) -> dict[str, str]:
    """Split the training images of each class at random.

    Args:
        data_root: holds ``train/CLASS/IMAGE``.
        share: of each class for validation, in (0, 1); at least one image.
        seed: of the split.
        per_class: labelled images of each class for finetuning and probes; None takes all that are
            not for validation.

    Returns:
        ``unlabelled`` (lines of ``CLASS/IMAGE``, everything but validation), ``labelled`` and
        ``val`` (lines of ``CLASS/IMAGE LABEL``): lists that datasets read.

    Raises:
        ValueError: a class has too few images.
    """
    lines = dict(unlabelled=[], labelled=[], val=[])
    rng = np.random.default_rng(seed)
    for label, path in enumerate(class_folders(data_root, 'train')):
        images = [str(image.relative_to(path.parent)) for image in find_images(path)[0]]
        images = [images[i] for i in rng.permutation(len(images))]
        held_out = max(1, round(share * len(images)))
        val, rest = images[:held_out], images[held_out:]
        if len(rest) < (per_class or 1):
            raise ValueError(
                f'labels_per_class {per_class or 1} is more than the {len(rest)} images of '
                f'{path} that are not for validation'
            )
        lines['unlabelled'] += sorted(rest)
        lines['labelled'] += [f'{image} {label}' for image in rest[:per_class]]
        lines['val'] += [f'{image} {label}' for image in val]
    return {name: '\n'.join(found) + '\n' for name, found in lines.items()}


def check_lists(lists: dict[str, str], folder: Path) -> None:
    """Check that a folder has no other lists than these of :func:`split_training_images`.

    Raises:
        ValueError: it has.
    """
    for name, text in lists.items():
        file = folder / f'{name}.txt'
        if file.exists() and file.read_text() != text:
            raise ValueError(
                f'{file} lists other images: {folder.parent} holds a comparison with another '
                'split, other labels or other data; name another out'
            )


def write_lists(lists: dict[str, str], folder: Path) -> dict[str, Path]:
    """Write the lists of :func:`split_training_images`, as ``NAME.txt``; their paths."""
    files = {name: folder / f'{name}.txt' for name in lists}
    for name, file in files.items():
        WholeFilesBackend().put(lists[name].encode(), file)
    return files


def batches(config: Config, split: str, files: dict[str, Path]) -> Iterator[dict]:
    """The images of ``'labelled'``, ``'val'`` or ``'test'`` with labels, without augmentation."""
    dataset = config.test_dataloader.dataset.copy()
    if split != 'test':
        dataset.update(data_prefix='train', ann_file=str(files[split]))
    yield from DataLoader(DATASETS.build(dataset), batch_size=256, collate_fn=pseudo_collate)


def labels(batch: dict) -> Tensor:
    return torch.cat([sample.gt_label for sample in batch['data_samples']])


# What is measured -------------------------------------------------------------------------------


@torch.no_grad()
def accuracy(config: Config, checkpoint: Path, split: str, files: dict[str, Path]) -> float:
    """Top-1 accuracy in % of a finetuned classifier."""
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    model = MODELS.build(config.model).to(device).eval()
    model.load_state_dict(load_checkpoint_safely(checkpoint)['state_dict'])
    right = count = 0
    for batch in batches(config, split, files):
        inputs = model.data_preprocessor(batch)['inputs']
        predicted = model(inputs).argmax(1).cpu()
        right += (predicted == labels(batch)).sum().item()
        count += len(predicted)
    return 100 * right / count


def layers_of(backbone: nn.Module) -> list[nn.Module]:
    """The parts that a network passes one after the other: layers, stages, or the whole of it.

    MMPretrain's have a list of them. In others it is the parts of the innermost module that holds
    four fifths of the parameters, such as timm's ``blocks``, ``stages`` or ``layer1`` to
    ``layer4``, those without parameters left out.
    """
    for name in ('layers', 'stages'):
        if isinstance(getattr(backbone, name, None), nn.ModuleList):
            return list(getattr(backbone, name))

    def size(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    inside = backbone
    while True:
        parts = [part for part in inside.children() if size(part)]
        largest = max(parts, key=size, default=None)
        if largest is None or size(largest) < LARGEST_PART * size(backbone):
            break
        inside = largest
    return [p for p in parts if size(p) >= SMALLEST_PART * size(backbone)] or [backbone]


@torch.no_grad()
def layer_features(
    extractor: FeatureExtractor, config: Config, split: str, files: dict[str, Path]
) -> tuple[list[Tensor], Tensor]:
    """The mean over the patches or positions after every layer, and the labels.

    Returns:
        A tensor ``(images, D)`` per layer (of a ViT) or stage (of other networks), and the labels
        ``(images,)``.
    """
    backbone, found = extractor.model.backbone, []

    def keep(module: nn.Module, args: tuple, out: Tensor | tuple) -> None:
        out = out[0] if isinstance(out, tuple) else out  # a Swin's stage also gives its size
        if out.dim() == 2:
            found.append(out)
        elif out.dim() == 4:  # (B, D, H, W), or timm's (B, H, W, D)
            last = channels(backbone, out) == out.shape[3] != out.shape[1]
            found.append(out.mean((1, 2) if last else (2, 3)))
        else:  # (B, T + L, D)
            found.append(out[:, getattr(backbone, 'num_extra_tokens', 0) :].mean(1))

    hooks = [layer.register_forward_hook(keep) for layer in layers_of(backbone)]
    features, targets = [], []
    try:
        for batch in batches(config, split, files):
            found.clear()
            extractor(batch)
            features.append([x.float().cpu() for x in found])
            targets.append(labels(batch))
    finally:
        for hook in hooks:
            hook.remove()
    return [torch.cat(parts) for parts in zip(*features, strict=True)], torch.cat(targets)


def frozen_accuracy(
    config: Config, checkpoint: Path | None, seed: int, split: str, files: dict[str, Path]
) -> dict[str, list[float]]:
    """Accuracies in % of a linear probe and of nearest neighbours, after every layer.

    The probe is logistic regression on standardised features (scikit-learn's L-BFGS, C = 1).

    Args:
        config: the finetuning config.
        checkpoint: of pretraining; None takes random weights.
        seed: of the random weights.
        split: ``'val'`` or ``'test'``.
        files: see :func:`split_training_images`.

    Returns:
        ``probe`` and ``knn``, a number per layer each; NaN where features are not finite.
    """
    # when used: slow to import
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    extractor = FeatureExtractor(config, checkpoint, seed=seed)
    if config.default_hooks.get('position_embedding') and checkpoint is None:
        set_sincos_position_embedding(extractor.model.backbone)
    features, targets = layer_features(extractor, config, 'labelled', files)
    queries, truth = layer_features(extractor, config, split, files)
    result = dict(probe=[], knn=[])
    for x, q in zip(features, queries, strict=True):
        if not (x.isfinite().all() and q.isfinite().all()):
            result['probe'].append(math.nan)
            result['knn'].append(math.nan)
            continue
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        probe.fit(x.numpy(), targets.numpy())
        result['probe'].append(100 * probe.score(q.numpy(), truth.numpy()))
        predicted = knn_predict(x, targets, q, k=min(NEIGHBOURS, len(x)))
        result['knn'].append(100 * (predicted == truth).double().mean().item())
    return result
