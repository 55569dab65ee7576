"""What is measured of a network: accuracy when finetuned, and of its frozen features."""

import copy
import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmpretrain.registry import DATASETS, MODELS
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..backbones import set_sincos_position_embedding
from ..backbones.weights import load_backbone
from ..datasets import ImageFolder
from ..evaluation.knn import knn_predict
from ..models.energy_head import pool_features
from ..utils.checkpoint import load_checkpoint_safely
from ..utils.whole_files import WholeFilesBackend
from .options import BenchmarkOptions

NEIGHBOURS = 20
Files = dict[str, Path]  # lists of images, see write_split


def write_split(train: ImageFolder, options: BenchmarkOptions) -> Files:
    """Split the training images of each class at random, and write the lists into ``out/split``.

    Returns:
        ``unlabelled`` (lines of ``CLASS/IMAGE``, everything but validation), ``labelled`` and
        ``val`` (lines of ``CLASS/IMAGE LABEL``).

    Raises:
        ValueError: a class has too few images, or ``out`` has other lists.
    """
    images, lines = defaultdict(list), defaultdict(list)
    for info in map(train.get_data_info, range(len(train))):
        images[info['gt_label']].append(str(Path(info['img_path']).relative_to(train.img_prefix)))
    rng, per_class = np.random.default_rng(options.split_seed), options.labels_per_class
    for label, paths in sorted(images.items()):
        count = max(1, round(options.val_share * len(paths)))
        paths = [paths[i] for i in rng.permutation(len(paths))]
        val, rest = paths[:count], paths[count:]
        if len(rest) < (per_class or 1):
            name, few = train.CLASSES[label], f'labels_per_class {per_class or 1}'
            raise ValueError(f'{few} is more than the {len(rest)} of {name} outside validation')
        lines['unlabelled'] += sorted(rest)
        lines['labelled'] += [f'{path} {label}' for path in rest[:per_class]]
        lines['val'] += [f'{path} {label}' for path in val]
    files = {name: Path(options.out).resolve() / 'split' / f'{name}.txt' for name in lines}
    for name, file in files.items():
        text = '\n'.join(lines[name]) + '\n'
        if file.exists() and file.read_text('utf-8') != text:
            raise ValueError(f'{file} lists other images, of another benchmark: name another out')
        WholeFilesBackend().put(text.encode(), file)
    return files


def batches(config: Config, split: str, files: Files) -> Iterator[dict]:
    """The images of ``'labelled'``, ``'val'`` or ``'test'`` with labels, without augmentation."""
    dataset = config.test_dataloader.dataset.copy()
    if split != 'test':
        dataset.update(data_prefix='train', ann_file=str(files[split]))
    yield from DataLoader(DATASETS.build(dataset), batch_size=256, collate_fn=pseudo_collate)


def labels(batch: dict) -> Tensor:
    return torch.cat([sample.gt_label for sample in batch['data_samples']])


def classifier(config: Config) -> nn.Module:
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    return MODELS.build(copy.deepcopy(config.model)).to(device).eval()


@torch.no_grad()
def accuracy(config: Config, checkpoint: Path, split: str, files: Files) -> float:
    """Top-1 accuracy in % of a finetuned classifier."""
    model, right = classifier(config), []
    model.load_state_dict(load_checkpoint_safely(checkpoint)['state_dict'])
    for batch in batches(config, split, files):
        predicted = model(model.data_preprocessor(batch)['inputs']).argmax(1).cpu()
        right.append(predicted == labels(batch))
    return 100 * torch.cat(right).double().mean().item()


@torch.no_grad()
def layer_features(
    model: nn.Module, config: Config, split: str, files: Files
) -> tuple[list[Tensor], Tensor]:
    """The mean over the patches or positions after every layer, and the labels.

    Returns:
        A tensor ``(images, D)`` per layer of a ViT, per stage of other networks, or for the whole
        of a network whose stages are not known; and the labels ``(images,)``.
    """
    backbone, found = model.backbone, []

    def keep(module: nn.Module, args: tuple, out: Tensor | tuple) -> None:
        if module is backbone:
            found.append(pool_features(out, config.model.head.in_channels))
            return
        out = out[0] if isinstance(out, tuple) else out  # a Swin's stage also gives its size
        if out.dim() == 4:  # (B, D, H, W)
            found.append(out.mean((2, 3)))
        else:  # (B, T + L, D)
            found.append(out[:, getattr(backbone, 'num_extra_tokens', 0) :].mean(1))

    parts = [getattr(backbone, name) for name in getattr(backbone, 'res_layers', [])]
    parts = parts or getattr(backbone, 'layers', getattr(backbone, 'stages', [backbone]))
    hooks = [part.register_forward_hook(keep) for part in parts]
    features, targets = [], []
    for batch in batches(config, split, files):
        found.clear()
        backbone(model.data_preprocessor(batch)['inputs'])
        features.append([x.float().cpu() for x in found])
        targets.append(labels(batch))
    for hook in hooks:
        hook.remove()
    return [torch.cat(layer) for layer in zip(*features, strict=True)], torch.cat(targets)


def frozen_accuracy(
    config: Config, checkpoint: Path, split: str, files: Files
) -> dict[str, list[float]]:
    """Accuracies in % of a linear probe and of nearest neighbours, after every layer.

    The probe is logistic regression on standardised features (scikit-learn's L-BFGS, C = 1).

    Returns:
        ``probe`` and ``knn``, a number per layer each; NaN where features are not finite.
    """
    # when used: slow to import
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = classifier(config)
    if config.default_hooks.get('position_embedding'):  # the start has none
        set_sincos_position_embedding(model.backbone)
    load_backbone(model.backbone, checkpoint)
    features, targets = layer_features(model, config, 'labelled', files)
    queries, truth = layer_features(model, config, split, files)
    result = dict(probe=[math.nan] * len(features), knn=[math.nan] * len(features))
    for n, (x, q) in enumerate(zip(features, queries, strict=True)):
        if x.isfinite().all() and q.isfinite().all():
            probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
            probe.fit(x.numpy(), targets.numpy())
            result['probe'][n] = 100 * probe.score(q.numpy(), truth.numpy())
            predicted = knn_predict(x, targets, q, k=min(NEIGHBOURS, len(x)))
            result['knn'][n] = 100 * (predicted == truth).double().mean().item()
    return result
