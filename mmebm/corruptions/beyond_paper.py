"""Corruptions that the paper does not try: blur, JPEG, a band of frequencies, jigsaw, fog."""

from collections.abc import Sequence
from math import ceil

import cv2
import numpy as np
import scipy.fft
from mmpretrain.registry import TRANSFORMS

from ..utils import checked_bool, checked_int, checked_number, checked_numbers, checked_range
from .base import BaseCorruption, image_order

FOG_OCTAVES = 6


def remove_band(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """Set the Fourier coefficients of an image to zero where ``low < |f| <= high``.

    |f|, in cycles per pixel, is 0 for the mean, which always stays, 0.5 for rows or columns that
    alternate, 0.71 for a chessboard.

    Returns:
        Array (H, W, 3) float32, not clipped.
    """
    height, width = image.shape[:2]
    spectrum = scipy.fft.rfft2(image.astype(np.float32), axes=(0, 1))
    size = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    spectrum[(low < size) & (size <= high)] = 0
    return scipy.fft.irfft2(spectrum, (height, width), axes=(0, 1), overwrite_x=True)


def exchange_cells(
    image: np.ndarray, patch_size: int, ratio: float, rng: np.random.Generator
) -> np.ndarray:
    """Exchange the content of cells of a grid that starts at the top left.

    The cells chosen, in random order, form one cycle: each takes the content of the next, so that
    none keeps its own. Where ``patch_size`` does not divide, the rest at the right and at the
    bottom stays as it is.

    Args:
        image: (H, W, 3) uint8.
        patch_size: Side of a square cell in pixels.
        ratio: Share of the whole cells to choose, in 0..1; a single cell cannot move.

    Returns:
        New array (H, W, 3) uint8.
    """
    rows, columns = (side // patch_size for side in image.shape[:2])
    result = image.copy()
    part = np.s_[: rows * patch_size, : columns * patch_size]
    # (rows, patch_size, columns, patch_size * 3): views on the part that cells cover
    shape = (rows, patch_size, columns, -1)
    chosen = rng.permutation(rows * columns)[: round(ratio * rows * columns)]
    if chosen.size < 2:
        return result
    to, start = (np.divmod(cells, columns) for cells in (chosen, np.roll(chosen, 1)))
    cells = image[part].reshape(shape)
    exchanged = cells.copy()
    exchanged[to[0], :, to[1]] = cells[start[0], :, start[1]]
    result[part] = exchanged.reshape(rows * patch_size, columns * patch_size, 3)
    return result


def plasma(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a smooth random field: octaves of noise, each of half the size and half the strength.

    Returns:
        Array (height, width) float32 with the smallest value 0 and the largest 1; all 1 if there is
        one pixel only.
    """
    field = np.zeros((height, width), np.float32)
    for octave in range(FOG_OCTAVES):
        nodes = rng.standard_normal((2**octave + 1,) * 2, dtype=np.float32)
        field += 0.5**octave * cv2.resize(nodes, (width, height), interpolation=cv2.INTER_CUBIC)
    field -= field.min()
    highest = field.max()
    return field / highest if highest > 0 else np.ones_like(field)


@TRANSFORMS.register_module()
class Blur(BaseCorruption):
    """Convolve with a Gaussian. MMPretrain has taken the name ``GaussianBlur``.

    The image is continued by its mirror image. The kernel ends after 4 σ.

    Args:
        sigma_range: Smallest and largest σ in pixels, in 0..100; drawn uniformly for each image.
        seed: See :class:`BaseCorruption`.
    """

    def __init__(self, sigma_range: tuple[float, float], seed: int | None = None) -> None:
        super().__init__(seed)
        self.sigma_range = checked_range('sigma_range', sigma_range, 0, 100)

    def corrupt(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the blurred ``image``, (H, W, 3) uint8."""
        sigma = rng.uniform(*self.sigma_range)
        if sigma == 0:
            return image.copy()
        side = 2 * ceil(4 * sigma) + 1
        return cv2.GaussianBlur(image, (side, side), sigma, borderType=cv2.BORDER_REFLECT)


@TRANSFORMS.register_module()
class JPEGCompression(BaseCorruption):
    """Write the image as JPEG and read it again: 8 x 8 blocks, colour at half the size.

    Args:
        quality_range: Smallest and largest quality, whole numbers in 1..100; drawn uniformly for
            each image.
        to_rgb: As in the data preprocessor: True if images arrive as BGR.
        seed: See :class:`BaseCorruption`.
    """

    def __init__(
        self, quality_range: tuple[int, int], to_rgb: bool = True, seed: int | None = None
    ) -> None:
        super().__init__(seed)
        self.quality_range = checked_range('quality_range', quality_range, 1, 100, whole=True)
        self.to_rgb = checked_bool('to_rgb', to_rgb)

    def corrupt(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return ``image``, (H, W, 3) uint8, as it comes out of the JPEG file."""
        quality = int(rng.integers(*self.quality_range, endpoint=True))
        bgr = image if self.to_rgb else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        _, file = cv2.imencode('.jpg', bgr, (cv2.IMWRITE_JPEG_QUALITY, quality))
        bgr = cv2.imdecode(file, cv2.IMREAD_COLOR)
        return bgr if self.to_rgb else cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


@TRANSFORMS.register_module()
class FrequencyMask(BaseCorruption):
    """Remove a band of the Fourier spectrum, a ring around the mean; see :func:`remove_band`.

    The result is float32 in units of pixels, lies partly outside 0..255 and is never clipped.

    Args:
        low_range: Smallest and largest lower edge of the band in cycles per pixel, in 0..0.70;
            drawn uniformly for each image. 0 removes everything below the upper edge but the mean.
        width: Width of the band in cycles per pixel, above 0 and at most 0.71.
        seed: See :class:`BaseCorruption`.
    """

    dtype = np.float32

    def __init__(
        self, low_range: tuple[float, float], width: float, seed: int | None = None
    ) -> None:
        super().__init__(seed)
        self.low_range = checked_range('low_range', low_range, 0, 0.7)
        self.width = checked_number('width', width, above=0, high=0.71)

    def corrupt(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return ``image`` without the band, (H, W, 3) float32 in units of pixels."""
        low = rng.uniform(*self.low_range)
        return remove_band(image, low, low + self.width)


@TRANSFORMS.register_module()
class Shuffle(BaseCorruption):
    """Exchange square cells of the image, a jigsaw to be restored in pixels.

    See :func:`exchange_cells` for what moves. Where only the order is to be found, and not the
    pixels, see :class:`~mmebm.models.EnergySortingAlgorithm`.

    Args:
        patch_size: Side of a cell in pixels, >= 1.
        ratio: Share of the cells that move, in 0..1, exact to one cell.
        seed: See :class:`BaseCorruption`.
    """

    def __init__(self, patch_size: int, ratio: float = 1.0, seed: int | None = None) -> None:
        super().__init__(seed)
        self.patch_size = checked_int('patch_size', patch_size, minimum=1)
        self.ratio = checked_number('ratio', ratio, 0, 1)

    def corrupt(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return a copy of ``image``, (H, W, 3) uint8, with cells exchanged."""
        return exchange_cells(image, self.patch_size, self.ratio, rng)


@TRANSFORMS.register_module()
class Fog(BaseCorruption):
    """Blend with a colour by a random smooth share, a :func:`plasma` f: ``x + d·f·(fill − x)``.

    Args:
        density_range: Smallest and largest d, the share of fog where it is thickest, in 0..1; drawn
            uniformly for each image.
        fill: Colour of the fog (R, G, B) in 0..255.
        to_rgb: As in the data preprocessor: True if images arrive as BGR.
        seed: See :class:`BaseCorruption`.
    """

    def __init__(
        self,
        density_range: tuple[float, float] = (0.7, 1.0),
        fill: Sequence[int] = (230, 230, 230),
        to_rgb: bool = True,
        seed: int | None = None,
    ) -> None:
        super().__init__(seed)
        self.density_range = checked_range('density_range', density_range, 0, 1)
        self.fill = checked_numbers('fill', fill, 3, 0, 255, whole=True)
        self.to_rgb = to_rgb
        self._pixel = image_order(self.fill, to_rgb).astype(np.float32)

    def corrupt(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the foggy ``image``, (H, W, 3) uint8."""
        height, width = image.shape[:2]
        share = rng.uniform(*self.density_range) * plasma(height, width, rng)
        # In rows of W * 3 numbers, because numpy is slow along an innermost axis of three.
        rows = image.reshape(height, -1).astype(np.float32)
        rows += share.astype(np.float32).repeat(3, axis=1) * (np.tile(self._pixel, width) - rows)
        return np.rint(rows).astype(np.uint8).reshape(image.shape)
