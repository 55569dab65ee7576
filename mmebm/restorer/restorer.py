"""Restore or sort images of any size: descent in overlapping tiles of the network's size.

The variable of the descent is the difference ``xⁿ − x⁰`` in pixel units. It starts at zero, so that
a network with a zero gradient returns a bit-identical image.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path

import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmpretrain.registry import MODELS, TRANSFORMS
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from ..corruptions import BaseCorruption
from ..datasets import Picture, read_picture
from ..models import EnergyRestorationAlgorithm, EnergySortingAlgorithm, energy_gradient
from ..models.chain import Chain, to_uint8
from ..utils import checked_int
from ..utils.checkpoint import load_checkpoint_safely
from ..utils.config_text import config_inside
from ..utils.device import usable_device
from ..utils.state_dict import check_fit
from .damage import Damage, damaged
from .pictures import check_pixels
from .tiles import Tiling, add_change

# H × W pixels BGR, h × w of a tile, B tiles in a batch, C channels, N descent steps.

NETWORK = Path(__file__).with_name('network')
OVERLAP = 0.5  # of neighbouring tiles, as a share of their side: see docs/restore.md
WHOLE_UP_TO = 512  # side in pixels above which even networks that take any size get tiles
ANY_SIZE_ALIGN = 32  # their images are padded to a multiple of it, the usual coarsest stride
BATCH_PIXELS = dict(cpu=2**17, other=2**20)  # pixels of all tiles in a batch
_SIZE_NAMES = ('img_size', 'image_size', 'input_size', 'init_input_size', 'input_resolution')


class Restorer:
    """Restores images of any size by descent on the energy; or shuffles and sorts their patches.

    Networks that take any size get images up to 512² whole. Otherwise each step computes ``∇(αE)``
    of overlapping tiles, blends these gradients, and subtracts the result from the whole image. A
    sorting network gets the image as :meth:`crop` cuts it.

    Args:
        checkpoint: file of a pretraining run, or one that holds its ``state_dict``. Only weights
            and plain values are read. Defaults to the network that comes with mmebm.
        config: config of the run, or its path. Defaults to the one in the checkpoint, which is
            parsed, never executed.
        device: ``'cpu'``, ``'cuda'``, ... Defaults to the GPU if there is one.
        batch_size: tiles per batch, ≥ 1. Defaults to 2¹⁷ pixels together, 2²⁰ on a GPU.

    Attributes:
        model: the network, in evaluation mode and frozen.
        sorts: whether it was trained to sort patches, not to restore pixels.
        size: ``(h, w)`` of the images that it was validated on.
        any_size: whether it takes images of any size.
        corruption: config of the corruption that it was validated with, or None.

    Raises:
        FileNotFoundError: a file is missing.
        TypeError, ValueError: an option is wrong; no config is given and the checkpoint holds none;
            it belongs to another network, or to one that neither restores nor sorts.
    """

    def __init__(
        self,
        checkpoint: str | Path | None = None,
        config: str | Path | Config | None = None,
        device: str | None = None,
        batch_size: int | None = None,
    ):
        if batch_size is not None:
            batch_size = checked_int('batch_size', batch_size, minimum=1)
        self.shipped = checkpoint is None
        self.model, config = load_pretrained(checkpoint, config, device)
        self.model.requires_grad_(False)  # saves memory: only the image changes here
        self.sorts = isinstance(self.model, EnergySortingAlgorithm)
        self._prepare, self.corruption = validation_transforms(config)
        named = _named_size(self.model.backbone)
        self.any_size = named is None
        self.size = _output_size(self._prepare) or named
        if self.size is None:
            raise ValueError("the config's validation pipeline must end in a crop to a fixed size")
        self._align = ANY_SIZE_ALIGN
        if not self.any_size:  # the first stride of more than 1 is a vision transformer's patch
            convolutions = (m for m in self.model.backbone.modules() if isinstance(m, nn.Conv2d))
            strides = (max(convolution.stride) for convolution in convolutions)
            self._align = next((stride for stride in strides if stride > 1), 1)
        self._batch_size = batch_size
        self.to_rgb = bool(self.model.data_preprocessor._channel_conversion)
        self.device = self.model.log_step_size.device

    def __call__(
        self,
        image: str | Path | Picture | np.ndarray,
        damage: Damage | None = None,
        num_steps: int | None = None,
        every_step: bool = True,
        on_tiles: Callable[[int, int], None] | None = None,
    ) -> Chain:
        """Restore an image, or shuffle and sort it.

        Args:
            image: a file, a picture, or an array ``(H, W, 3)`` uint8 BGR (as OpenCV reads it).
            damage: what is wrong with it; None takes it as it is. Sorting reads its ``index`` only.
            num_steps: N ≥ 0. Defaults to the number used in training.
            every_step: keep all steps, 12 bytes per pixel and step, with their energies. If not,
                ``images`` is x⁰ and x^N, and the energies are NaN.
            on_tiles: called after each batch with the number of tiles that are done, and of all.

        Returns:
            The chain, its images of the size of ``image``, or ``upscale`` times as large.

        Raises:
            FileNotFoundError, UnreadableImageError: there is no such file, or it is no image, or
                exceeds the pixel limit once it is enlarged, or padded to whole tiles.
            TypeError, ValueError: an option is wrong or out of range, or does not fit the picture.
        """
        num_steps = self.model.num_steps if num_steps is None else num_steps
        num_steps, damage = checked_int('num_steps', num_steps, minimum=0), damage or Damage()
        if self.shipped and damage.colorize:
            raise ValueError(
                'colorize: not by the network that comes with mmebm; name a checkpoint'
            )
        if self.sorts:
            return self._sorted(self.crop(image), damage, num_steps)
        seen = self.seen(as_picture(image))
        start, clean, title = damaged(seen, damage, self.corruption, self.to_rgb)
        x, difference, energies = start.pixels, np.float32(0), []
        images = [x]
        for difference, energy in self.descend(x, num_steps + every_step, on_tiles):
            energies.append(energy)
            if every_step and len(images) <= num_steps:
                images.append(x + _inside(damage.mask, difference))
        if not every_step:
            change, out = _inside(damage.mask, difference), difference if num_steps else None
            images.append(np.add(x, change, out=out, dtype=np.float32))  # in its place
            energies = [np.nan, np.nan]
        images = [image[..., ::-1] for image in images]
        chain = Chain(images, np.array(energies), title=title, picture=start)
        if clean is not None:
            chain.clean = clean[..., ::-1]
            if every_step:
                _, chain.clean_energy = next(self.descend(clean, 1))
        return chain

    def seen(self, picture: Picture) -> Picture:
        """A picture as the network sees it: grey if its backbone has one channel."""
        if len(getattr(self.model.data_preprocessor, 'mean', 'rgb')) != 1:
            return picture
        grey = (picture.pixels * np.float32((0.25, 0.5, 0.25))).sum(2, keepdims=True)
        return replace(picture, pixels=grey.astype(picture.pixels.dtype).repeat(3, 2))

    def descend(
        self,
        image: np.ndarray,
        num_steps: int,
        on_tiles: Callable[[int, int], None] | None = None,
    ) -> Iterator[tuple[np.ndarray, float]]:
        """Yield ``xⁿ − x⁰`` and the mean energy of xⁿ⁻¹ over the tiles, for n = 1..N.

        ``image`` is x⁰, ``(H, W, 3)`` BGR in pixel units, uint8 or float32; the difference float32,
        the same array for all steps.
        """
        tiling = self.tiling(*image.shape[:2])
        check_pixels(*tiling.padded)
        # The head averages over positions, so that each has a smaller share of ∇E in a larger tile.
        scale = float(np.prod(tiling.tile) / np.prod(self.size))
        padded = tiling.pad(image)
        difference = np.zeros(padded.shape, np.float32)
        energies: list[float] = []  # floats: small tensors between large ones fragment memory

        def change(tiles: np.ndarray) -> np.ndarray:
            energy, step = self.descent_step(tiles, scale)
            energies.extend(energy.tolist())
            if on_tiles is not None:
                on_tiles(len(energies), len(tiling) * num_steps)
            return step

        for _ in range(num_steps):
            add_change(padded, difference, change, tiling, self._batch(tiling))
            yield tiling.crop(difference), float(np.mean(energies[-len(tiling) :]))

    def descent_step(self, tiles: np.ndarray, scale: float = 1.0) -> tuple[Tensor, np.ndarray]:
        """Energies ``(B,)`` of tiles ``(B, h, w, 3)`` BGR; ``−scale · ∇(αE)`` in pixel units."""
        step_size = self.model.step_size.detach() * scale
        energy, gradient = energy_gradient(self.model.energy, self.to_network(tiles), step_size)
        if self.model.data_preprocessor._enable_normalize:
            gradient = gradient * self.model.data_preprocessor.std
        if self.to_rgb:
            gradient = gradient.flip(1)
        return energy.detach(), -gradient.permute(0, 2, 3, 1).cpu().numpy()

    def tiling(self, height: int, width: int) -> Tiling:
        """The tiles of an image; only one if the network takes it whole."""
        tile = self.size
        if self.any_size:
            sides = (ceil(min(side, WHOLE_UP_TO) / ANY_SIZE_ALIGN) for side in (height, width))
            tile = tuple(ANY_SIZE_ALIGN * side for side in sides)
        align = self._align if all(side >= 2 * self._align for side in tile) else 1
        overlap = tuple(int(side * OVERLAP) for side in tile)
        return Tiling(height, width, tile, overlap, align)

    def to_network(self, tiles: np.ndarray) -> Tensor:
        """Pixels ``(B, h, w, 3)`` BGR → ``(B, C, h, w)``, by the model's data preprocessor."""
        x = torch.from_numpy(np.ascontiguousarray(tiles, np.float32)).permute(0, 3, 1, 2)
        data = self.model.data_preprocessor(dict(inputs=[x], data_samples=None))
        return data['inputs'][0].contiguous()

    def crop(self, image: str | Path | Picture | np.ndarray) -> np.ndarray:
        """Resize and crop an image like the validation set: ``(h, w, 3)`` uint8 BGR."""
        pixels = to_uint8(as_picture(image).pixels)
        shape = pixels.shape[:2]
        return self._prepare(dict(img=pixels, img_shape=shape, ori_shape=shape))['img']

    def _sorted(self, pixels: np.ndarray, damage: Damage, num_steps: int) -> Chain:
        if damage.kinds:
            raise ValueError('this network sorts shuffled patches: it repairs no other damage')
        samples = [DataSample(metainfo=dict(sample_idx=damage.index))]
        inputs = self.to_network(pixels[None])
        (chain,) = self.model.validation_chains(inputs, samples, num_steps)
        chain.title, chain.picture, chain.clean = 'shuffled', Picture(pixels), pixels[..., ::-1]
        if not self.to_rgb:
            chain.images = chain.images[..., ::-1]
        return chain

    def _batch(self, tiling: Tiling) -> int:
        pixels = BATCH_PIXELS['cpu' if self.device.type == 'cpu' else 'other']
        return self._batch_size or max(1, pixels // int(np.prod(tiling.tile)))


def load_pretrained(
    checkpoint: str | Path | None, config: str | Path | Config | None, device: str | None = None
) -> tuple[nn.Module, Config]:
    """The model of a pretraining run, in evaluation mode, and its config; see :class:`Restorer`."""
    if checkpoint is None:
        checkpoint, config = NETWORK / 'network.safetensors', NETWORK / 'config.py'
        if not checkpoint.is_file():
            raise FileNotFoundError('no network came with this mmebm: name a CHECKPOINT')
    state = load_checkpoint_safely(checkpoint)
    if config is None:
        config = config_inside(state, checkpoint)
    elif not isinstance(config, Config):
        config = Config.fromfile(config)
    found = config.get('model', {}).get('type')
    if found not in (EnergyRestorationAlgorithm.__name__, EnergySortingAlgorithm.__name__):
        how = '--energy inpainting' if found == 'EnergyInpaintingAlgorithm' else found
        raise ValueError(f'{checkpoint}, trained with {how}, gives features and restores nothing')
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('WARNING')  # backbones of timm tell their layers
    try:
        model = MODELS.build(config.model)
    finally:
        logger.setLevel(level)
    weights = state.get('state_dict', state)
    check_fit(model, weights, checkpoint, f'the {found} of the config')
    model.load_state_dict(weights)
    return model.to(usable_device(device)).eval(), config


def validation_transforms(config: Config) -> tuple[Compose, dict | None]:
    """The config's validation transforms between loading and corrupting, and its corruption."""
    pipeline = (config.get('val_dataloader') or {}).get('dataset', {}).get('pipeline')
    if not pipeline:
        raise ValueError('the config has no val_dataloader, which would say how to resize images')
    before, corruption = [], None
    for transform in pipeline:
        cls = TRANSFORMS.get(transform['type'])
        if cls is not None and issubclass(cls, BaseCorruption):
            corruption = {k: v for k, v in transform.items() if k != 'seed'}
            break
        if transform['type'] not in ('LoadImageFromFile', 'PackInputs'):
            before.append(TRANSFORMS.build(transform))
    return Compose(before), corruption


def as_picture(image: str | Path | Picture | np.ndarray) -> Picture:
    """Read a file; an array is ``(H, W, 3)`` BGR."""
    if isinstance(image, Picture):
        return image
    return Picture(image) if isinstance(image, np.ndarray) else read_picture(image)


def _inside(mask: np.ndarray | None, change: np.ndarray | np.float32) -> np.ndarray:
    """A change ``(H, W, 3)``, zero outside of a mask."""
    return change if mask is None else np.where(mask[..., None], change, np.float32(0))


def _named_size(backbone: nn.Module) -> tuple[int, int] | None:
    """The image size that a module of a backbone has as an attribute, as in a ViT."""
    for module in backbone.modules():
        for name in _SIZE_NAMES:
            size = getattr(module, name, None)
            if isinstance(size, int) and not isinstance(size, bool) and size > 0:
                return size, size
            if isinstance(size, Sequence) and [type(side) for side in size] == [int, int]:
                return tuple(size)
    return None


def _output_size(prepare: Compose) -> tuple[int, int] | None:
    """``(h, w)`` of a validation pipeline's images; None if it depends on the input's shape."""
    sizes = set()
    for shape in ((301, 499), (640, 530)):
        image = np.zeros((*shape, 3), np.uint8)
        sizes.add(prepare(dict(img=image, img_shape=shape, ori_shape=shape))['img'].shape[:2])
    return sizes.pop() if len(sizes) == 1 else None
