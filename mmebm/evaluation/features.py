"""Pooled features of frozen backbones, and how well their nearest neighbours classify images."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.utils import to_2tuple
from mmpretrain.registry import MODELS
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader

from ..backbones.probe import trained_image_size
from ..backbones.weights import load_backbone
from ..datasets import ImageFolder
from ..models.features import pooled_features
from ..utils.checkpoint import load_checkpoint_safely
from ..utils.config_text import config_inside
from ..utils.device import usable_cores
from .knn import nearest, vote


class FeatureExtractor:
    """Pooled features of a frozen backbone: pretrained here or by MMPretrain, or a classifier's.

    Args:
        config: of the run, its file, or a checkpoint with one; None: that of the weights.
        checkpoint: see :func:`mmebm.load_backbone`. None leaves the weights random, by ``seed``.
        device: such as ``'cpu'``. Defaults to the GPU if there is one.

    ``filled`` is how the checkpoint fits, ``image_size`` height and width in pixels of the images
    that the backbone is made for.

    Raises:
        FileNotFoundError, ValueError: a file or a config is missing, or of another network.
    """

    def __init__(
        self,
        config: str | Path | Config | None,
        checkpoint: str | Path | None = None,
        device: str | None = None,
        seed: int = 0,
    ):
        source = checkpoint if config is None else config
        if str(source).endswith('.py'):
            with open(source, encoding='utf-8'):  # a missing file is named
                config = Config.fromfile(source)
        elif isinstance(source, str | Path):
            config = config_inside(load_checkpoint_safely(source, mmap=True), source)
        self.device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
        pixels = config.model.get('data_preprocessor') or config.get('data_preprocessor') or {}
        to_rgb = pixels.get('to_rgb', False) or pixels.get('bgr_to_rgb', False)
        pixels = dict(mean=pixels.get('mean'), std=pixels.get('std'), to_rgb=to_rgb)
        self._preprocess = MODELS.build(dict(pixels, type='ClsDataPreprocessor')).to(self.device)
        model = copy.deepcopy(config.model)
        if (model.backbone.get('init_cfg') or {}).get('type') == 'Pretrained':
            model.backbone.pop('init_cfg')  # this class loads the weights
        torch.manual_seed(seed)
        self.model = MODELS.build(model)
        self.model.backbone.init_weights()
        self.filled = load_backbone(self.model.backbone, checkpoint) if checkpoint else None
        self.model.to(self.device).eval()
        trained = trained_image_size(config) or 224
        self.image_size = tuple(to_2tuple(getattr(self.model.backbone, 'img_size', trained)))
        self.grey = pixels['mean'] is not None and len(pixels['mean']) == 1

    @torch.no_grad()
    def __call__(self, batch: dict) -> Tensor:
        """Features ``(B, D)`` of a collated batch: ``inputs`` ``(B, 3, H, W)``, BGR in 0..255."""
        if self.grey:  # of a backbone with one channel; weighed as in its training
            blue, green, red = batch['inputs'].float().split(1, dim=1)
            batch = dict(batch, inputs=(blue + 2 * green + red) / 4)
        return pooled_features(self.model, self._preprocess(batch)['inputs'])

    def of_images(
        self, images: ImageFolder, batch_size: int = 128, workers: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Features ``(N, D)`` of a data set, and labels ``(N,)``; -1 without a label.

        ``workers`` are 4 by default, or one for each core.
        """
        workers = min(4, usable_cores()) if workers is None else workers
        loader = DataLoader(images, batch_size, num_workers=workers, collate_fn=default_collate)
        what, features, labels = f'features of {Path(images.img_prefix).name}', [], []
        for batch in track(loader, what, transient=True):
            features.append(self(batch))
            labels += [int(sample.get('gt_label', -1)) for sample in batch['data_samples']]
        return torch.cat(features), torch.tensor(labels, device=self.device)


def images_of(
    folder: str | Path, image_size: tuple[int, int], most: int | None = None, **options: Any
) -> ImageFolder:
    """The images of a folder, cut by :func:`centre_crop` to a height and width.

    At most ``most`` are used, spread evenly over the classes. ``options`` are those of
    :class:`mmebm.datasets.ImageFolder`.
    """
    crop = centre_crop(*image_size)
    pipeline = [dict(type='LoadImageFromFile'), *crop, dict(type='PackInputs')]
    folder = str(Path(folder).expanduser())
    images = ImageFolder(folder, test_mode=True, pipeline=pipeline, **options)
    if most is not None and most < len(images):  # sorted by class
        images.get_subset_(torch.linspace(0, len(images) - 1, most).long().tolist())
    return images


def centre_crop(height: int, width: int) -> list[dict]:
    """Transforms to a size: of a square as for ImageNet (256 to 224), or with the whole short side
    below 128 pixels; else the largest part of that shape.
    """
    resize = dict(backend='pillow', interpolation='bicubic')
    if height == width:
        side = round(height * 256 / 224) if height >= 128 else height
        resize |= dict(type='ResizeEdge', scale=side, edge='short')
        return [resize, dict(type='CenterCrop', crop_size=height)]
    whole = dict(crop_ratio_range=(1.0, 1.0), aspect_ratio_range=(width / height,) * 2)
    return [dict(resize, type='RandomResizedCrop', scale=(height, width), **whole)]


def evaluate_knn(
    network: FeatureExtractor,
    train: ImageFolder,
    test: ImageFolder,
    k: Sequence[int] = (20,),
    temperature: float = 0.07,
    **loading: int,
) -> dict[int, tuple[float, float]]:
    """Top-1 and top-5 accuracy, in 0..1, of k neighbours that vote with ``exp(similarity / T)``.

    ``train`` holds the labelled images, ``test`` the queries; ``loading`` is ``batch_size`` and
    ``workers``.

    Raises:
        ValueError: an option is out of range, the classes differ, or a feature is not finite.
    """
    if train.CLASSES != test.CLASSES:
        differing = ', '.join(sorted(set(train.CLASSES) ^ set(test.CLASSES))[:5])
        raise ValueError(f'only {train.img_prefix} or {test.img_prefix} has {differing}')
    bank, labels = network.of_images(train, **loading)
    queries, truth = network.of_images(test, **loading)
    similarities, indices = nearest(bank, queries, max(k))
    accuracies = {}
    for n in sorted(k):
        scores = vote(similarities[:, :n], labels[indices[:, :n]], temperature, len(train.CLASSES))
        right = scores.topk(min(5, scores.shape[1])).indices == truth[:, None]
        accuracies[n] = right[:, 0].float().mean().item(), right.any(1).float().mean().item()
    return accuracies
