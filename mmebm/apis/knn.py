"""Nearest-neighbour classification of folders of labelled images with frozen features."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.dataset import default_collate
from torch import Tensor
from torch.utils.data import DataLoader

from ..datasets import ImageFolder
from ..evaluation import nearest, vote
from ..utils import checked_int, checked_number
from .features import FeatureExtractor

CHUNK = 4096  # queries, and features, compared at a time

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class KNNResult:
    """Result of :func:`evaluate_knn`.

    Attributes:
        accuracies: k → top-1 and top-5 accuracy, each in 0..1.
        train, test: the labelled images and the queries.
    """

    accuracies: dict[int, tuple[float, float]]
    train: ImageFolder
    test: ImageFolder

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of their labels."""
        return list(self.train.CLASSES)


def evaluate_knn(
    network: FeatureExtractor,
    train: str | Path,
    test: str | Path,
    k: int | Sequence[int] = 20,
    temperature: float = 0.07,
    image_size: int | None = None,
    max_images: int | None = None,
    batch_size: int = 128,
    workers: int = 4,
    half: bool = False,
    progress: Progress | None = None,
) -> KNNResult:
    """Measure how well the nearest neighbours of frozen features classify images.

    Neighbours vote with weight ``exp(similarity / T)``, see :func:`mmebm.evaluation.vote`. Images
    are resized and centre-cropped in ImageNet's proportion, 256 to 224; for an image size below 128
    the crop takes the whole short side.

    Args:
        network: computes the features.
        train: folder with a sub-folder of labelled images per class.
        test: folder of the images to classify, with the same class sub-folders.
        k: number of neighbours, ≥ 1; several numbers share the features and the search.
        temperature: T > 0.
        image_size: side of the images in pixels, ≥ 1. Defaults to the size that the network is
            made for, or 224 if it does not say.
        max_images: most images to use per folder, ≥ 1, spread evenly over the classes; None uses
            all.
        batch_size: images per batch, ≥ 1.
        workers: data-loading processes, ≥ 0.
        half: store the features in float16, which halves their memory.
        progress: called with the name of the stage, the number of images done, and their total.

    Raises:
        FileNotFoundError: a folder is missing or holds no image.
        TypeError: an option has the wrong type.
        ValueError: an option is out of range, the classes differ, there are fewer than k
            labelled images, or a feature is not finite.
    """
    ks = sorted({checked_int('k', one, 1) for one in ([k] if isinstance(k, int) else k)})
    if not ks:
        raise ValueError('k must be at least one number, got none')
    checked_number('temperature', temperature, above=0)
    checked_int('batch_size', batch_size, 1)
    checked_int('workers', workers, 0)
    for name, value in (('image_size', image_size), ('max_images', max_images)):
        if value is not None:
            checked_int(name, value, 1)
    size = image_size or network.image_size or 224
    bank, queries = (_labelled_images(folder, size, max_images) for folder in (train, test))
    if bank.CLASSES != queries.CLASSES:
        differing = sorted(set(bank.CLASSES) ^ set(queries.CLASSES))
        raise ValueError(
            f'{bank.img_prefix} and {queries.img_prefix} must have the same class sub-folders, but '
            f'only one of them has {", ".join(differing[:5])}'
        )
    if ks[-1] > len(bank):
        raise ValueError(f'k = {ks[-1]} is more than the {len(bank)} labelled images')
    report = progress or (lambda what, done, total: None)
    dtype = torch.float16 if half else torch.float32
    known, asked = (
        extract_features(network, part, batch_size, workers, dtype, report)
        for part in (bank, queries)
    )
    found = _accuracies(known, asked, ks, temperature, len(bank.CLASSES), report)
    return KNNResult(found, bank, queries)


def _labelled_images(folder: str | Path, size: int, most: int | None) -> ImageFolder:
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f'no such folder: {folder}')
    # 256 → 224 as usual for ImageNet; small images keep their border.
    edge = round(size * 256 / 224) if size >= 128 else size
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='ResizeEdge', scale=edge, backend='pillow', interpolation='bicubic'),
        dict(type='CenterCrop', crop_size=size),
        dict(type='PackInputs'),
    ]
    dataset = ImageFolder(str(folder), with_label=True, test_mode=True, pipeline=pipeline)
    if most is not None and most < len(dataset):  # sorted by class
        dataset.get_subset_(torch.linspace(0, len(dataset) - 1, most).long().tolist())
    return dataset


def extract_features(
    network: FeatureExtractor,
    dataset: ImageFolder,
    batch_size: int = 128,
    workers: int = 4,
    dtype: torch.dtype = torch.float32,
    progress: Progress | None = None,
) -> tuple[Tensor, Tensor]:
    """The features ``(N, D)`` and labels ``(N,)`` of labelled images, on the network's device.

    Args:
        network: computes the features.
        dataset: the images, with labels.
        batch_size: images per batch, ≥ 1.
        workers: data-loading processes, ≥ 0.
        dtype: of the features.
        progress: see :func:`evaluate_knn`.
    """
    loader = DataLoader(dataset, batch_size, num_workers=workers, collate_fn=default_collate)
    features, labels, start = None, [], 0
    report = progress or (lambda what, done, total: None)
    what = f'features of {Path(dataset.img_prefix).name}'
    report(what, 0, len(dataset))
    for batch in loader:
        labels += [sample.gt_label for sample in batch['data_samples']]
        found = network(batch)
        if features is None:  # filled in place: concatenating a list takes twice the memory
            features = found.new_empty(len(dataset), found.shape[1], dtype=dtype)
        features[start : start + len(found)] = found
        start += len(found)
        report(what, start, len(dataset))
    return features, torch.cat(labels).to(features.device)


def _accuracies(
    bank: tuple[Tensor, Tensor],
    queries: tuple[Tensor, Tensor],
    ks: list[int],
    temperature: float,
    num_classes: int,
    progress: Progress,
) -> dict[int, tuple[float, float]]:
    """Top-1 and top-5 accuracy for each k, in 0..1."""
    hits = {k: torch.zeros(2, dtype=torch.long) for k in ks}
    done = 0
    for part, labels in zip(*(q.split(CHUNK) for q in queries), strict=True):
        similarities, indices = nearest(bank[0], part, ks[-1], CHUNK)
        neighbours = bank[1][indices]
        for k in ks:
            scores = vote(similarities[:, :k], neighbours[:, :k], temperature, num_classes)
            right = scores.topk(min(5, num_classes), dim=1).indices == labels[:, None]
            hits[k] += torch.stack([right[:, 0].sum(), right.sum()]).cpu()
        done += len(part)
        progress('neighbours', done, len(queries[0]))
    top1_and_5 = {k: (count / len(queries[0])).tolist() for k, count in hits.items()}
    return {k: (top1, top5) for k, (top1, top5) in top1_and_5.items()}
