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
from ..report.verdict import contrast
from ..utils.checkpoint import load_checkpoint_safely
from ..utils.whole_files import WholeFilesBackend
from .options import BenchmarkOptions

NEIGHBOURS = 20
VAL_SHARE = 0.1
Files = dict[str, Path]  # lists of images, see write_split


def write_split(train: ImageFolder, options: BenchmarkOptions) -> Files:
    """Split the training images of each class at random, and write the lists into ``out/split``:
    ``unlabelled`` (``CLASS/IMAGE``, all but validation), ``labelled`` and ``val`` (and the label).
    """
    images, lines = defaultdict(list), defaultdict(list)
    for info in map(train.get_data_info, range(len(train))):
        images[info['gt_label']].append(str(Path(info['img_path']).relative_to(train.img_prefix)))
    rng, per_class = np.random.default_rng(0), options.labels_per_class
    for label, paths in sorted(images.items()):
        count = max(1, round(VAL_SHARE * len(paths)))
        paths = [paths[i] for i in rng.permutation(len(paths))]
        val, rest = paths[:count], paths[count:]
        if len(rest) < (per_class or 1):
            name = train.CLASSES[label]
            raise ValueError(f'{name} has only {len(rest)} images that are not for validation')
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


def classifier(config: Config) -> nn.Module:
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    return MODELS.build(copy.deepcopy(config.model)).to(device).eval()


def batches(
    model: nn.Module, config: Config, split: str, files: Files
) -> Iterator[tuple[Tensor, Tensor]]:
    """Images of ``'labelled'``, ``'val'`` or ``'test'`` as the model takes them, and labels."""
    dataset = config.test_dataloader.dataset.copy()
    if split != 'test':
        dataset.update(data_prefix='train', ann_file=str(files[split]))
    for batch in DataLoader(DATASETS.build(dataset), batch_size=256, collate_fn=pseudo_collate):
        labels = torch.cat([sample.gt_label for sample in batch['data_samples']])
        yield model.data_preprocessor(batch)['inputs'], labels


@torch.no_grad()
def accuracy(config: Config, checkpoint: Path, split: str, files: Files) -> float:
    """Top-1 accuracy in % of a finetuned classifier."""
    model, right = classifier(config), []
    model.load_state_dict(load_checkpoint_safely(checkpoint)['state_dict'])
    for images, labels in batches(model, config, split, files):
        right.append(model(images).argmax(1).cpu() == labels)
    return 100 * torch.cat(right).double().mean().item()


@torch.no_grad()
def layer_features(
    model: nn.Module, config: Config, split: str, files: Files
) -> tuple[list[Tensor], Tensor]:
    """The mean over positions ``(images, D)`` after each layer of a ViT or stage of other networks
    (the last one where they are not known), and the labels ``(images,)``.
    """
    backbone, found = model.backbone, []

    def keep(module: nn.Module, args: tuple, out: Tensor | tuple) -> None:
        if module is backbone:
            found.append(pool_features(out, config.model.head.in_channels))
            return
        out = out[0] if isinstance(out, tuple) else out  # a Swin's stage also gives its size
        extra = getattr(backbone, 'num_extra_tokens', 0)  # (B, D, H, W) or (B, T + L, D)
        found.append(out.mean((2, 3)) if out.dim() == 4 else out[:, extra:].mean(1))

    parts = [getattr(backbone, name) for name in getattr(backbone, 'res_layers', [])]
    parts = parts or getattr(backbone, 'layers', getattr(backbone, 'stages', [backbone]))
    hooks = [part.register_forward_hook(keep) for part in parts]
    features, targets = [], []
    for images, labels in batches(model, config, split, files):
        found.clear()
        backbone(images)
        features.append([x.float().cpu() for x in found])
        targets.append(labels)
    for hook in hooks:
        hook.remove()
    return [torch.cat(layer) for layer in zip(*features, strict=True)], torch.cat(targets)


def frozen_accuracy(
    config: Config, checkpoint: Path, split: str, files: Files
) -> dict[str, list[float]]:
    """Accuracies in % of a linear ``probe`` and of nearest neighbours, ``knn``, after every layer.

    The probe is logistic regression on standardised features (scikit-learn's L-BFGS, C = 1). NaN
    where features are not finite. And their :func:`contrast <mmebm.report.verdict.contrast>`.
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
    result = {name: [math.nan] * len(features) for name in ('probe', 'knn', 'contrast')}
    for n, (x, q) in enumerate(zip(features, queries, strict=True)):
        if x.isfinite().all() and q.isfinite().all():
            probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
            probe.fit(x.numpy(), targets.numpy())
            result['contrast'][n] = contrast(q)
            result['probe'][n] = 100 * probe.score(q.numpy(), truth.numpy())
            predicted = knn_predict(x, targets, q, k=min(NEIGHBOURS, len(x)))
            result['knn'][n] = 100 * (predicted == truth).double().mean().item()
    return result
