"""Restore whole images of any size: descent in overlapping tiles of the network's size.

The variable of the descent is the difference ``xⁿ − x⁰`` in pixel units. It starts at zero, so that
a network with a zero gradient returns a bit-identical image.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
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
WHOLE_UP_TO = 512  # side in pixels above which even networks that take any size get tiles
ANY_SIZE_ALIGN = 32  # their images are padded to a multiple of it, the usual coarsest stride
BATCH_PIXELS = dict(cpu=2**17, other=2**20)  # pixels of all tiles in a batch
_SIZE_NAMES = ('img_size', 'image_size', 'input_size', 'init_input_size', 'input_resolution')

OnStep = Callable[[int, np.ndarray, np.ndarray], None]
OnTiles = Callable[[int], None]


class WholeImageRestorer:
    """Descends on the energy of whole images; :class:`RestorationInferencer` works on crops.

    Networks that take any size get images up to 512² whole. Otherwise the image is covered with
    overlapping tiles: each step computes ``∇(αE)`` of every tile, blends these gradients, and
    subtracts the result from the whole image.

    Args:
        checkpoint: file of a pretraining run, or one that holds its ``state_dict``. Only weights
            and plain values are unpickled.
        config: config of the run, or its path. Defaults to the one in the checkpoint, which is
            parsed, never executed.
        device: ``'cpu'``, ``'cuda'``, ... Defaults to the GPU if there is one.
        batch_size: tiles per batch, ≥ 1. Defaults to as many as have 2¹⁷ pixels together, 2²⁰ on a
            GPU.

    Attributes:
        model: the network, in evaluation mode and frozen.
        size: ``(h, w)`` of the images that the network was validated on.
        any_size: whether the network takes images of any size.
        corruption: config of the corruption that it was validated with, or None.

    Raises:
        FileNotFoundError: a file is missing.
        TypeError, ValueError: ``batch_size`` is not an integer ≥ 1; no config is given and the
            checkpoint holds none; the checkpoint belongs to another network; or the config does not
            train restoration, or does not say how large the network's images are.
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
        self.model.requires_grad_(False)  # saves memory: only the image changes here
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
        """Device of the network."""
        return self.model.log_step_size.device

    @property
    def blank(self) -> np.ndarray:
        """Fill of masked pixels, BGR ``(3,)``: as in the validation set, else ImageNet's mean."""
        kinds = [] if self.corruption is None else _leaves(MixedCorruption([self.corruption]))
        fills = [kind.fill for kind in kinds if hasattr(kind, 'fill')]
        return image_order(fills[0] if fills else BLANK, self.to_rgb).astype(np.uint8)

    def tiling(self, height: int, width: int) -> Tiling:
        """The tiles of an image; only one if the network takes it whole."""
        if self.any_size:
            sides = (_multiple(min(s, WHOLE_UP_TO), ANY_SIZE_ALIGN) for s in (height, width))
            tile = tuple(sides)
        else:
            tile = self.size
        align = self._align if all(side >= 2 * self._align for side in tile) else 1
        overlap = tuple(int(side * OVERLAP) for side in tile)
        return Tiling(height, width, tile, overlap, align)

    def num_tiles(self, height: int, width: int, num_steps: int | None = None) -> int:
        """Number of tiles times number of steps, the total of a progress bar."""
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

        Besides the network, memory holds the image, the difference in float32, one row of tiles and
        one batch.

        Args:
            image: x⁰, ``(H, W, 3)`` BGR in pixel units, uint8 or float32, any H, W ≥ 1.
            num_steps: N ≥ 0. Defaults to the number used in training.
            on_step: called with n, x⁰ and ``xⁿ − x⁰`` for n = 0..N; the arrays are not copies.
            on_tiles: called with the number of tiles after each batch.

        Returns:
            ``x^N − x⁰``, ``(H, W, 3)`` float32, and the mean energy over the tiles of each of
            x⁰, ..., x^(N−1).

        Raises:
            TypeError, ValueError: ``num_steps`` is not an integer ≥ 0.
            UnreadableImageError: padded to whole tiles, the image would exceed the pixel limit (a
                very long one).
        """
        num_steps = self.model.num_steps if num_steps is None else num_steps
        num_steps = checked_int('num_steps', num_steps, minimum=0)
        height, width = image.shape[:2]
        tiling = self.tiling(height, width)
        check_pixels(*tiling.padded)
        # The head averages over positions, so that each has a smaller share of ∇E in a larger tile.
        scale = np.prod(tiling.tile) / np.prod(self.size)
        padded = tiling.pad(image)
        difference = np.zeros(padded.shape, np.float32)
        batch = self._batch_size or self._default_batch(tiling)
        means = []
        if on_step is not None:
            on_step(0, image, tiling.crop(difference))
        for n in range(1, num_steps + 1):
            energies: list[float] = []  # floats: small tensors between large ones fragment memory

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
            scale: factor on the step size.

        Returns:
            Energies ``(B,)`` on the device, and the change ``(B, h, w, 3)`` float32.
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
        """The tiles of ``(H, W, 3)`` BGR, normalised, in batches ``(B, C, h, w)``."""
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

    def fingerprint(self) -> bytes:
        """A digest of all that results depend on: weights, normalisation, size, tiles."""
        parts = [*self.model.state_dict().values(), *self.model.data_preprocessor.buffers()]
        digest = sha256(repr((self.size, self.any_size, self._align, self.to_rgb)).encode())
        digest.update(str(self.model).encode())
        for part in parts:
            digest.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.digest()

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
    """The result of restoring a whole image.

    Attributes:
        start: x⁰, the damaged picture that the descent started from.
        difference: ``x^N − x⁰``, ``(H, W, 3)`` float32 BGR in pixel units; zero where a mask
            protects the pixel.
        energies: mean over the tiles, of x⁰ to x^(N−1).
        clean: the original pixels where a corruption was applied, else None.
        corruption: class name of the corruption applied; else ``'mask'``, ``'upscale K×'``,
            ``'grey'`` or ``''``.
    """

    start: Picture
    difference: np.ndarray
    energies: list[float]
    clean: np.ndarray | None = None
    corruption: str = ''

    def figures(self) -> dict[str, float]:
        """PSNR in dB and SSIM against ``clean``, before and after; empty without ``clean``.

        As in :class:`mmebm.RestorationMetric`, pixels are not clipped.
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
    """What is wrong with an image, which decides how it enters the network; at most one kind.

    With none, the image enters as it is: it is damaged already, for example by noise.

    Attributes:
        mask: bool ``(H, W)``, True where pixels are missing: they enter blank, as in training, and
            no other pixel changes.
        upscale: K ≥ 1: the image enters enlarged K times in constant K × K blocks, as the
            corruption ``SuperResolution`` makes them.
        colorize: the image enters as grey in three channels.
        corruption: a corruption, or its config, to apply to a clean image, so that the restoration
            can be measured; ``'config'`` takes the one that the network was validated with.
        seed: of the corruption, ≥ 0.
        index: number of the image, ≥ 0; each number is corrupted differently.

    Raises:
        TypeError, ValueError: more than one kind is given, or ``upscale`` is not an integer ≥ 1.
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
            raise ValueError(f'only one kind of damage at a time, got {", ".join(given)}')
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
        picture: as :func:`read_picture` returns it.
        damage: what is wrong with it; None takes it as it is.
        num_steps, on_step, on_tiles: see :meth:`WholeImageRestorer.__call__`.

    Raises:
        TypeError, ValueError: the mask does not have the picture's size, an option has the wrong
            type or is out of range, or ``'config'`` finds no corruption.
        UnreadableImageError: the enlarged picture would exceed the pixel limit.
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
    """Restore a picture file into a PNG file that keeps its alpha channel, colour profile and EXIF.

    Args:
        restorer: the network.
        source: the file.
        target: the PNG file.
        damage, num_steps: see :func:`restore_image`.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableImageError: it cannot be read as an image, or is too large.
        TypeError, ValueError: see :func:`restore_image`.

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
    """Enlarge K times by nearest neighbour: ``(H, W, ...)`` → ``(K·H, K·W, ...)``."""
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def takes_any_size(backbone: nn.Module) -> bool:
    """Whether no module of a backbone has an attribute for the image size, as in a ViT."""
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
    """``(h, w)`` of a validation pipeline's images; None if it depends on the input's shape."""
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
    """PSNR in dB of ``pixels + difference`` against ``clean``, all ``(H, W, 3)`` in pixel units."""
    error = 0.0
    for first in range(0, len(clean), rows):
        part = slice(first, first + rows)
        deviation = _band(pixels, difference, part) - clean[part]
        error += float(np.square(deviation, dtype=np.float64).sum())
    return psnr(error, clean.size)


def ssim_in_bands(
    pixels: np.ndarray, clean: np.ndarray, difference: np.ndarray | None = None, rows: int = 64
) -> float:
    """SSIM as in :class:`mmebm.RestorationMetric`, in bands of rows to save memory."""
    # Imported here because it takes half a second, which not every start should pay.
    from torchmetrics.functional.image import structural_similarity_index_measure

    height, width = clean.shape[:2]
    halo = 5  # torchmetrics' window is 11 × 11 pixels; it mirrors the image at the border
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
