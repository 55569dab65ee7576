"""Restore whole images of any size: descent in overlapping tiles of the network's size.

What is descended on is the difference ``D = xⁿ − x⁰`` in pixel units. It starts at zero, so a
network that wants no change returns every pixel as it was, to the byte.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor, nn

from ..corruptions import BaseCorruption, Colorization, MixedCorruption
from ..corruptions.base import image_order
from ..corruptions.masking import BLANK
from ..evaluation.restoration_metric import DATA_RANGE, psnr, ssim
from ..models import EnergyRestorationAlgorithm, energy_gradient
from ..utils import checked_int
from ..utils.tiles import Tiling, add_change
from .picture_files import Picture, check_pixels, read_picture, save_picture, to_bytes
from .restoration import load_pretrained, validation_transforms

# H × W pixels BGR, h × w of a tile, B tiles in a batch, C channels, N descent steps.

OVERLAP = 0.5  # of neighbouring tiles, as a share of their side: see docs/restore_and_score.md
WHOLE_UP_TO = 512  # pixels along a side: networks of any size get larger images in such tiles
ANY_SIZE_ALIGN = 32  # such images are continued to a multiple of the usual coarsest stride
BATCH_PIXELS = dict(cpu=2**17, other=2**20)  # of all tiles that the network gets at once
_SIZE_NAMES = ('img_size', 'image_size', 'input_size', 'init_input_size', 'input_resolution')

OnStep = Callable[[int, np.ndarray, np.ndarray], None]
OnTiles = Callable[[int], None]


class WholeImageRestorer:
    """Descends on the energy of images of any size, as :class:`RestorationInferencer` on crops.

    Networks that take any size get images up to 512² as they are. Others, and larger images, are
    worked on in overlapping tiles: at every step each tile's ``∇(αE)`` is computed, the blended
    whole is subtracted, and the next step begins from there.

    Args:
        checkpoint: file written by a pretraining run, or one with its ``state_dict``. Read without
            unpickling anything but weights and plain values.
        config: config of the run, or its path. Defaults to the one inside the checkpoint, which is
            parsed, never executed.
        device: ``'cpu'``, ``'cuda'``, ... Defaults to the GPU where there is one.
        batch_size: the most tiles that the network gets at once, ≥ 1. By default as many as have
            2¹⁷ pixels, on a GPU 2²⁰.

    Attributes:
        model: in evaluation mode, its parameters without gradients.
        size: ``(h, w)`` of the images that the network was validated on.
        any_size: whether the network takes images of any size.
        corruption: config of the one that it was validated with, or None.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the checkpoint holds no config and none is given; it belongs to another
            network; the config is not one of restoration pretraining, or does not say how large
            the network's images are.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        config: str | Path | Config | None = None,
        device: str | None = None,
        batch_size: int | None = None,
    ):
        if batch_size is not None:
            batch_size = checked_int('batch_size', batch_size, minimum=1)
        self.model, config = load_pretrained(checkpoint, config, EnergyRestorationAlgorithm, device)
        self.model.requires_grad_(False)  # then autograd keeps less: only the image changes here
        prepare, self.corruption = validation_transforms(config)
        self.any_size = takes_any_size(self.model.backbone)
        self.size = output_size(prepare) or _named_size(self.model.backbone)
        if self.size is None:
            raise ValueError(
                "neither the config's validation pipeline nor its backbone says how large the "
                "network's images are: the pipeline must end in a crop or resize to a fixed size"
            )
        self._align = ANY_SIZE_ALIGN if self.any_size else first_stride(self.model.backbone)
        self._batch_size = batch_size
        preprocessor = self.model.data_preprocessor
        self.to_rgb = bool(preprocessor._channel_conversion)
        self._normalize = bool(preprocessor._enable_normalize)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.model.log_step_size.device

    @property
    def blank(self) -> np.ndarray:
        """The masked pixel of the network's training, BGR ``(3,)``; else ImageNet's mean."""
        kinds = [] if self.corruption is None else _leaves(MixedCorruption([self.corruption]))
        fills = [kind.fill for kind in kinds if hasattr(kind, 'fill')]
        return image_order(fills[0] if fills else BLANK, self.to_rgb).astype(np.uint8)

    def tiling(self, height: int, width: int) -> Tiling:
        """The tiles for an image: one where the network takes it whole."""
        if self.any_size:
            sides = (_multiple(min(s, WHOLE_UP_TO), ANY_SIZE_ALIGN) for s in (height, width))
            tile = tuple(sides)
        else:
            tile = self.size
        align = self._align if all(side >= 2 * self._align for side in tile) else 1
        overlap = tuple(int(side * OVERLAP) for side in tile)
        return Tiling(height, width, tile, overlap, align)

    def num_tiles(self, height: int, width: int, num_steps: int | None = None) -> int:
        """How many times a tile is worked on, for a progress bar."""
        num_steps = self.model.num_steps if num_steps is None else num_steps
        return len(self.tiling(height, width)) * num_steps

    def __call__(
        self,
        image: np.ndarray,
        num_steps: int | None = None,
        on_step: OnStep | None = None,
        on_tiles: OnTiles | None = None,
    ) -> tuple[np.ndarray, list[float]]:
        """Descend from an image.

        Memory beside the network: the image, the difference in float32, one row of tiles, one
        batch.

        Args:
            image: x⁰, ``(H, W, 3)`` BGR in pixel units, uint8 or float32, any H, W ≥ 1.
            num_steps: N ≥ 0. Defaults to the number trained with.
            on_step: called with n, x⁰ and ``xⁿ − x⁰`` for n = 0..N; the arrays are not copies.
            on_tiles: called with the number of tiles after each batch.

        Returns:
            ``x^N − x⁰``, ``(H, W, 3)`` float32, and the mean energy over the tiles of each of
            x⁰, ..., x^(N−1).

        Raises:
            TypeError, ValueError: ``num_steps`` is not an integer ≥ 0.
            UnreadableImageError: so narrow an image would be too large when filled up to a tile.
        """
        num_steps = self.model.num_steps if num_steps is None else num_steps
        num_steps = checked_int('num_steps', num_steps, minimum=0)
        height, width = image.shape[:2]
        tiling = self.tiling(height, width)
        check_pixels(*tiling.padded)
        # The head averages over positions: more of them share one energy, each with less of ∇E.
        scale = np.prod(tiling.tile) / np.prod(self.size)
        padded = tiling.pad(image)
        difference = np.zeros(padded.shape, np.float32)
        batch = self._batch_size or self._default_batch(tiling)
        means = []
        if on_step is not None:
            on_step(0, image, tiling.crop(difference))
        for n in range(1, num_steps + 1):
            energies: list[float] = []  # no tensors: small ones among large fragment the memory

            def change(tiles: np.ndarray, energies: list[float] = energies) -> np.ndarray:
                energy, step = self.descent_step(tiles, float(scale))
                energies.append(energy.sum().item())
                return step

            add_change(padded, difference, change, tiling, batch, on_tiles)
            means.append(sum(energies) / len(tiling))
            if on_step is not None:
                on_step(n, image, tiling.crop(difference))
        return tiling.crop(difference), means

    def descent_step(self, tiles: np.ndarray, scale: float = 1.0) -> tuple[Tensor, np.ndarray]:
        """Energies of tiles, and ``−scale · ∇(αE)`` in pixel units.

        Args:
            tiles: ``(B, h, w, 3)`` float32 BGR, pixel units.
            scale: a factor of the step size.

        Returns:
            ``(B,)`` on the device, and ``(B, h, w, 3)`` float32.
        """
        x = self.to_network(tiles)
        energy, gradient = energy_gradient(
            self.model.energy, x, self.model.step_size.detach() * scale
        )
        if self._normalize:
            gradient = gradient * self.model.data_preprocessor.std
        if self.to_rgb:
            gradient = gradient.flip(1)
        return energy.detach(), -gradient.permute(0, 2, 3, 1).cpu().numpy()

    def tiles(self, image: np.ndarray) -> Iterator[Tensor]:
        """The tiles of ``(H, W, 3)`` BGR as the network gets them, in batches ``(B, C, h, w)``."""
        tiling = self.tiling(*image.shape[:2])
        padded = tiling.pad(image)
        (rows, columns), (height, width) = tiling.starts, tiling.tile
        batch = self._batch_size or self._default_batch(tiling)
        places = [(y, x) for y in rows for x in columns]
        for first in range(0, len(places), batch):
            chosen = places[first : first + batch]
            yield self.to_network(
                np.stack([padded[y : y + height, x : x + width] for y, x in chosen])
            )

    @torch.no_grad()
    def energy(self, image: np.ndarray) -> float:
        """Mean energy over the tiles of an image ``(H, W, 3)`` BGR."""
        return torch.cat([self.model.energy(x).float() for x in self.tiles(image)]).mean().item()

    def to_network(self, tiles: np.ndarray) -> Tensor:
        """Pixels ``(B, h, w, 3)`` BGR → normalised ``(B, C, h, w)``, as the data preprocessor."""
        x = torch.from_numpy(np.ascontiguousarray(tiles, dtype=np.float32)).to(self.device)
        x = x.permute(0, 3, 1, 2)  # (B, C, h, w)
        if self.to_rgb:
            x = x.flip(1)
        preprocessor = self.model.data_preprocessor
        x = (x - preprocessor.mean) / preprocessor.std if self._normalize else x
        return x.contiguous()

    def _default_batch(self, tiling: Tiling) -> int:
        pixels = BATCH_PIXELS['cpu' if self.device.type == 'cpu' else 'other']
        return max(1, pixels // int(np.prod(tiling.tile)))


@dataclass
class Restoration:
    """A whole image on its way from damaged to restored.

    Attributes:
        start: x⁰, the picture as the network got it.
        difference: ``x^N − x⁰``, ``(H, W, 3)`` float32 BGR in pixel units; zero where a mask
            protects the pixel.
        energies: mean over the tiles, of x⁰ to x^(N−1).
        clean: the original pixels where a corruption was applied, else None.
        corruption: its name, else ''.
    """

    start: Picture
    difference: np.ndarray
    energies: list[float]
    clean: np.ndarray | None = None
    corruption: str = ''

    def figures(self) -> dict[str, float]:
        """PSNR in dB and SSIM before and after, against ``clean``; nothing without it.

        As :class:`mmebm.RestorationMetric` has them: pixels are not clipped.
        """
        if self.clean is None:
            return {}
        before = self.start.pixels
        return {
            'psnr_corrupted': psnr_in_bands(before, self.clean),
            'psnr': psnr_in_bands(before, self.clean, self.difference),
            'ssim_corrupted': ssim_in_bands(before, self.clean),
            'ssim': ssim_in_bands(before, self.clean, self.difference),
        }


@dataclass
class Damage:
    """What is wrong with an image, and so how it enters the network. At most one may be given.

    With none the image is taken as damaged already, by noise say: it enters as it is.

    Attributes:
        mask: bool ``(H, W)``, True where pixels are missing: they enter blank, as in training, and
            no other pixel changes.
        upscale: K ≥ 1: the image enters enlarged K times in constant K × K blocks, which is what
            the corruption ``SuperResolution`` leaves of an image.
        colorize: the image enters as grey in three channels.
        corruption: config of a corruption to apply to a clean image, to see what is restored;
            ``'config'`` takes the one that the network was validated with.
        seed, index: of the corruption: its seed, and the number of the image in its series.
    """

    mask: np.ndarray | None = None
    upscale: int | None = None
    colorize: bool = False
    corruption: dict | BaseCorruption | str | None = None
    seed: int = 0
    index: int = 0

    def __post_init__(self) -> None:
        given = [n for n in ('mask', 'upscale', 'corruption') if getattr(self, n) is not None]
        given += ['colorize'] if self.colorize else []
        if len(given) > 1:
            raise ValueError(f'the network was trained on one damage at a time, got {given}')
        if self.upscale is not None:
            self.upscale = checked_int('upscale', self.upscale, minimum=1)


def restore_image(
    restorer: WholeImageRestorer,
    picture: Picture,
    damage: Damage | None = None,
    num_steps: int | None = None,
    on_step: OnStep | None = None,
    on_tiles: OnTiles | None = None,
) -> Restoration:
    """Restore a whole picture.

    Args:
        restorer: the network.
        picture: as :func:`read_picture` gives it.
        damage: what is wrong with it; None takes it as it is.
        num_steps, on_step, on_tiles: see :meth:`WholeImageRestorer.__call__`.

    Raises:
        ValueError: the mask is not of the picture's size, or an option is out of its range.
        UnreadableImageError: the enlarged picture would be too large.
    """
    damage = damage or Damage()
    start, clean, name = damaged(restorer, picture, damage)
    difference, energies = restorer(start.pixels, num_steps, on_step, on_tiles)
    if damage.mask is not None:
        difference[~damage.mask] = 0
    return Restoration(start, difference, energies, clean, name)


def restore_file(
    restorer: WholeImageRestorer,
    source: str | Path,
    target: str | Path,
    damage: Damage | None = None,
    num_steps: int | None = None,
) -> Restoration:
    """Restore a picture file into a PNG file of the same size, alpha and colour profile.

    Args:
        restorer: the network.
        source: the file.
        target: the PNG file.
        damage, num_steps: see :func:`restore_image`.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableImageError: it cannot be read as an image, or is too large.
        ValueError: see :func:`restore_image`.

    Example:
        >>> restorer = WholeImageRestorer('work_dirs/quickstart/epoch_10.pth')
        >>> restore_file(restorer, 'small.jpg', 'large.png', Damage(upscale=4))
    """
    restoration = restore_image(restorer, read_picture(source), damage, num_steps)
    save_picture(target, restoration.start, restoration.difference)
    return restoration


def damaged(
    restorer: WholeImageRestorer, picture: Picture, damage: Damage
) -> tuple[Picture, np.ndarray | None, str]:
    """The picture as it enters the network, the clean pixels if known, and what was done to it."""
    pixels = picture.pixels
    if damage.mask is not None:
        if damage.mask.shape != pixels.shape[:2]:
            (height, width), (h, w) = pixels.shape[:2], damage.mask.shape
            raise ValueError(f'the mask has {w} × {h} pixels, the image {width} × {height}')
        blank = pixels.copy()
        blank[damage.mask] = restorer.blank
        return replace(picture, pixels=blank), None, 'mask'
    if damage.upscale is not None:
        factor = damage.upscale
        check_pixels(pixels.shape[0] * factor, pixels.shape[1] * factor)
        alpha = None if picture.alpha is None else enlarge(picture.alpha, factor)
        enlarged = replace(picture, pixels=enlarge(pixels, factor), alpha=alpha)
        return enlarged, None, f'upscale {factor}×'
    if damage.colorize:
        grey = Colorization(to_rgb=True).corrupt(to_bytes(pixels), np.random.default_rng(0))
        return picture.in_colour(grey), None, 'grey'
    if damage.corruption is None:
        return picture, None, ''
    corruption = damage.corruption
    if isinstance(corruption, str) and corruption == 'config':
        corruption = restorer.corruption
        if corruption is None:
            raise ValueError('the network was validated without a corruption: name one')
    clean = to_bytes(pixels)
    results = dict(img=clean, sample_idx=damage.index)
    results = MixedCorruption([corruption], seed=damage.seed)(results)
    return picture.in_colour(results['img'][0]), clean, results['corruption']


def enlarge(image: np.ndarray, factor: int) -> np.ndarray:
    """Nearest neighbour: ``(H, W, ...)`` → ``(K·H, K·W, ...)`` in constant K × K blocks."""
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def takes_any_size(backbone: nn.Module) -> bool:
    """Whether no part of a backbone names the size of its images, as vision transformers do."""
    return _named_size(backbone) is None


def _named_size(backbone: nn.Module) -> tuple[int, int] | None:
    for module in backbone.modules():
        for name in _SIZE_NAMES:
            size = getattr(module, name, None)
            if isinstance(size, int) and not isinstance(size, bool) and size > 0:
                return size, size
            if (
                isinstance(size, Sequence)
                and len(size) == 2
                and all(isinstance(s, int) for s in size)
            ):
                return tuple(size)
    return None


def first_stride(backbone: nn.Module) -> int:
    """The stride of the first strided convolution: the patch size of a vision transformer."""
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d) and max(module.stride) > 1:
            return max(module.stride)
    return 1


def output_size(prepare: Callable[[dict], dict]) -> tuple[int, int] | None:
    """``(h, w)`` of the images that a validation pipeline makes; None if it keeps their shape."""
    sizes = set()
    for height, width in ((301, 499), (640, 530)):
        image = np.zeros((height, width, 3), np.uint8)
        shape = image.shape[:2]
        results = prepare(dict(img=image, img_shape=shape, ori_shape=shape))
        sizes.add(results['img'].shape[:2])
    return sizes.pop() if len(sizes) == 1 else None


def _leaves(corruption: BaseCorruption) -> list[BaseCorruption]:
    if isinstance(corruption, MixedCorruption):
        return [leaf for part in corruption.corruptions for leaf in _leaves(part)]
    return [corruption]


def _multiple(length: int, of: int) -> int:
    return ceil(length / of) * of


def psnr_in_bands(
    pixels: np.ndarray, clean: np.ndarray, difference: np.ndarray | None = None, rows: int = 256
) -> float:
    """PSNR in dB of ``pixels + difference`` against ``clean``, all ``(H, W, 3)``."""
    error = 0.0
    for first in range(0, len(clean), rows):
        part = slice(first, first + rows)
        deviation = _band(pixels, difference, part) - clean[part]
        error += float(np.square(deviation, dtype=np.float64).sum())
    return psnr(error, clean.size)


def ssim_in_bands(
    pixels: np.ndarray, clean: np.ndarray, difference: np.ndarray | None = None, rows: int = 64
) -> float:
    """SSIM as :class:`mmebm.RestorationMetric` has it, without arrays of the image's size."""
    # Imported here, since it takes half a second, which not every start should pay.
    from torchmetrics.functional.image import structural_similarity_index_measure

    height, width = clean.shape[:2]
    halo = 5  # torchmetrics' window has 11 × 11 pixels; beyond the border it sees a mirror image
    if height <= max(rows, 4 * halo) or width <= 4 * halo:
        whole = _band(pixels, difference, slice(0, height))
        return ssim(_tensor(whole), _tensor(clean))
    total = 0.0
    for first in range(0, height, rows):
        top, last = max(first - halo, 0), min(first + rows, height)
        part = slice(top, last + halo)
        images = (_tensor(_band(pixels, difference, part))[None], _tensor(clean[part])[None])
        _, similarity = structural_similarity_index_measure(
            *images, data_range=DATA_RANGE, sigma=1.5, return_full_image=True
        )
        total += similarity[..., first - top : last - top, :].double().sum().item()
    return total / clean.size


def _band(pixels: np.ndarray, difference: np.ndarray | None, rows: slice) -> np.ndarray:
    part = pixels[rows].astype(np.float32)
    return part if difference is None else part + difference[rows]


def _tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32)).permute(2, 0, 1)
