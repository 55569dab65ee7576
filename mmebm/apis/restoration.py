"""Restore and score images with a pretrained network."""

from pathlib import Path

import numpy as np
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmpretrain.registry import MODELS, TRANSFORMS
from torch import nn

from ..corruptions import BaseCorruption, MixedCorruption
from ..datasets import IMAGE_EXTENSIONS
from ..models import EnergyRestorationAlgorithm
from ..utils.checkpoint import load_checkpoint_safely
from ..utils.config_text import config_inside
from ..utils.device import usable_device
from ..utils.state_dict import check_fit
from ..visualization import Chain, to_chains


def find_images(path: str | Path) -> list[Path]:
    """List an image file, or all images below a folder, sorted.

    Raises:
        FileNotFoundError: there is no such file or folder, or no image in the folder.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(f'no such image or folder: {path}')
    found = sorted(
        f for f in path.rglob('*') if f.suffix.lower() in IMAGE_EXTENSIONS and f.is_file()
    )
    if not found:
        raise FileNotFoundError(
            f'no image below {path.resolve()} (extensions: {", ".join(IMAGE_EXTENSIONS)})'
        )
    return found


class UnreadableImageError(ValueError):
    """A file that cannot be read as an image."""


class RestorationInferencer:
    """Corrupts and restores images, and reports their energies: how unlikely they are.

    Args:
        checkpoint: file of a pretraining run, or one that holds its ``state_dict``. Only weights
            and plain values are unpickled.
        config: config of the run, or its path. Defaults to the one in the checkpoint, which is
            parsed, never executed.
        device: ``'cpu'``, ``'cuda'``, ... Defaults to the GPU if there is one.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: no config is given and the checkpoint holds none; the checkpoint belongs to
            another network; or the config does not train restoration.

    Example:
        >>> restore = RestorationInferencer('work_dirs/quickstart/epoch_10.pth')
        >>> chain = restore('photo.jpg', corruption=dict(type='GaussianNoise'))
        >>> chain.images.shape, chain.psnr, chain.energies
    """

    def __init__(
        self,
        checkpoint: str | Path,
        config: str | Path | Config | None = None,
        device: str | None = None,
    ):
        self.model, config = load_pretrained(checkpoint, config, EnergyRestorationAlgorithm, device)
        self._prepare, self._corruption = validation_transforms(config)
        self._pack = TRANSFORMS.build(dict(type='PackInputs'))

    def __call__(
        self,
        image: str | Path | np.ndarray,
        corruption: dict | BaseCorruption | str | None = 'config',
        num_steps: int | None = None,
        seed: int = 0,
        index: int = 0,
    ) -> Chain:
        """Corrupt an image and restore it.

        Args:
            image: a file, or an array ``(H, W, 3)`` uint8 in BGR (as OpenCV reads it). It is
                resized and cropped like the images of the config's validation set.
            corruption: a corruption or its config; None: the image is corrupted already;
                ``'config'``: the corruption of the config's validation set, or None without one.
            num_steps: N ≥ 0. Defaults to the number used in training.
            seed: of the corruption, ≥ 0.
            index: number of the image, ≥ 0; each number is corrupted differently.

        Returns:
            The chain; without a corruption its ``clean`` is None.

        Raises:
            FileNotFoundError: there is no such file.
            UnreadableImageError: the file cannot be read as an image.
            TypeError, ValueError: an option has the wrong type or is out of range.
        """
        results = self._prepare(read_image(image))
        clean = results['img']  # (H, W, 3)
        if isinstance(corruption, str) and corruption == 'config':
            corruption = self._corruption
        if corruption is None:
            results['img'] = [clean, clean]
            name = ''
        else:
            results['sample_idx'] = index
            results = MixedCorruption([corruption], seed=seed)(results)
            name = results['corruption']
        batch = self.model.data_preprocessor(default_collate([self._pack(results)]), False)
        (chain,) = to_chains(self.model, batch['inputs'], num_steps=num_steps)
        chain.title = name
        if corruption is None:
            chain.clean = chain.clean_energy = None
        return chain


def load_pretrained(
    checkpoint: str | Path,
    config: str | Path | Config | None,
    algorithm: type[nn.Module],
    device: str | None = None,
) -> tuple[nn.Module, Config]:
    """Build the model of a pretraining run, in evaluation mode, with its weights.

    Args:
        checkpoint, config, device: see :class:`RestorationInferencer`.
        algorithm: class of the model that the config must have.

    Returns:
        The model and the config.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: no config is given and the checkpoint holds none; the checkpoint belongs to
            another network; the config's model is another algorithm; or there is no such device.
    """
    device = usable_device(device)
    state = load_checkpoint_safely(checkpoint)
    if config is None:
        config = config_inside(state, checkpoint)
    elif not isinstance(config, Config):
        config = Config.fromfile(config)
    found = config.get('model', {}).get('type')
    if found != algorithm.__name__:
        raise ValueError(
            f'checkpoint {checkpoint}: the model must be {algorithm.__name__}, got {found!r}'
        )
    model = MODELS.build(config.model)
    weights = state.get('state_dict', state)
    check_fit(model, weights, checkpoint, f'the {found} of the config')
    model.load_state_dict(weights)
    return model.to(device).eval(), config


def read_image(image: str | Path | np.ndarray) -> dict:
    """Load an image as the first step of a pipeline does.

    Args:
        image: a file, or an array ``(H, W, 3)`` uint8 in BGR.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableImageError: it cannot be read as an image.
    """
    if isinstance(image, np.ndarray):
        return dict(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])
    if not Path(image).is_file():
        raise FileNotFoundError(f'no such image: {image}')
    try:
        return TRANSFORMS.build(dict(type='LoadImageFromFile'))(dict(img_path=str(image)))
    except Exception as error:  # every decoder raises errors of its own
        raise UnreadableImageError(f'{image} cannot be read as an image: {error}') from error


def validation_transforms(config: Config) -> tuple[Compose, dict | None]:
    """The config's validation transforms between loading and corrupting, and its corruption.

    Raises:
        ValueError: the config has no validation set.
    """
    pipeline = (config.get('val_dataloader') or {}).get('dataset', {}).get('pipeline')
    if not pipeline:
        raise ValueError(
            'the config has no val_dataloader with a pipeline, which would say how to resize images'
        )
    before, corruption = [], None
    for transform in pipeline:
        cls = TRANSFORMS.get(transform['type'])
        if cls is not None and issubclass(cls, BaseCorruption):
            corruption = {k: v for k, v in transform.items() if k != 'seed'}
            break
        if transform['type'] not in ('LoadImageFromFile', 'PackInputs'):
            before.append(TRANSFORMS.build(transform))
    return Compose(before), corruption
