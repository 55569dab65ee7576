"""Masking: parts of the image become blank (section 3.1 and Table 1 of the paper)."""

from collections.abc import Sequence

import cv2
import numpy as np
from mmpretrain.registry import TRANSFORMS

from ..utils import checked_int, checked_number, checked_numbers, checked_range
from .base import BaseCorruption, image_order

# ImageNet's mean, (123.675, 116.28, 103.53), rounded. The paper does not say what a blank pixel is;
# this one is close to zero after normalisation.
BLANK = (124, 116, 104)


def grid_mask(
    height: int, width: int, patch_size: int, ratio: float, rng: np.random.Generator
) -> np.ndarray:
    """Choose cells of a grid that starts at the top left.

    If ``patch_size`` does not divide the size, the last row and column of cells are cut off; a cut
    cell still counts as one.

    Args:
        height, width, patch_size: Sizes of the image and of a square cell in pixels.
        ratio: Share of the cells to choose, in 0..1.

    Returns:
        Bool (height, width), True in exactly ``round(ratio * cells)`` cells, drawn uniformly
        without replacement.
    """
    rows, columns = -(-height // patch_size), -(-width // patch_size)
    cells = np.zeros(rows * columns, dtype=bool)
    cells[rng.permutation(cells.size)[: round(ratio * cells.size)]] = True
    grid = cells.reshape(rows, columns)
    return grid.repeat(patch_size, axis=0).repeat(patch_size, axis=1)[:height, :width]


def block_mask(
    height: int,
    width: int,
    num_blocks: int,
    area_range: tuple[float, float],
    aspect_range: tuple[float, float],
    rng: np.random.Generator,
) -> np.ndarray:
    """Place rectangles, which may overlap, fully inside the image.

    The area of a rectangle as a share of the image is uniform in ``area_range``, its width divided
    by its height uniform in ``aspect_range``, its place uniform. If a rectangle does not fit into a
    long image, its aspect is changed and its area kept. Sides are rounded to whole pixels, at least
    one.

    Args:
        height, width: Size of the image in pixels.
        num_blocks, area_range, aspect_range: See :class:`RandomBlockMask`.

    Returns:
        Bool (height, width), True inside a rectangle.
    """
    area = rng.uniform(*area_range, num_blocks) * (height * width)
    aspect = rng.uniform(*aspect_range, num_blocks)
    block_width = np.clip(np.sqrt(area * aspect), np.maximum(area / height, 1), width)
    block_height = np.maximum(np.rint(area / block_width), 1).astype(int)
    block_width = np.rint(block_width).astype(int)
    top = rng.integers(0, height - block_height, endpoint=True)
    left = rng.integers(0, width - block_width, endpoint=True)
    mask = np.zeros((height, width), dtype=bool)
    for y, x, h, w in zip(top, left, block_height, block_width, strict=True):
        mask[y : y + h, x : x + w] = True
    return mask


def blank_pixels(image: np.ndarray, mask: np.ndarray, pixel: np.ndarray) -> np.ndarray:
    """Copy ``image``, (H, W, 3) uint8, and set it to ``pixel``, (3,), where ``mask``, (H, W)."""
    # OpenCV on rows of W * 3 bytes: numpy takes 30 times as long on pixels of three bytes.
    height, width = mask.shape
    blank = np.tile(np.tile(pixel, width), (height, 1)).reshape(image.shape)
    return cv2.copyTo(image, (~mask).view(np.uint8), blank)


@TRANSFORMS.register_module()
class GriddedMask(BaseCorruption):
    """Split the image into squares and blank a random share of them; "Gridded" in Table 1.

    See :func:`grid_mask` for image sizes that ``patch_size`` does not divide.

    Args:
        patch_size: Side of a square in pixels; the paper uses 16, 24 and 32.
        ratio: Share of blank squares in 0..1, exact to one square; the paper uses 0.1 to 0.9.
        fill: Blank pixel (R, G, B), integers in 0..255. The paper gives none; the default is
            ImageNet's mean.
        to_rgb: As in the data preprocessor: True if images arrive as BGR.
        seed: See :class:`BaseCorruption`.
    """

    def __init__(
        self,
        patch_size: int,
        ratio: float,
        fill: Sequence[int] = BLANK,
        to_rgb: bool = True,
        seed: int | None = None,
    ) -> None:
        super().__init__(seed)
        self.patch_size = checked_int('patch_size', patch_size, minimum=1)
        self.ratio = checked_number('ratio', ratio, 0, 1)
        self.fill = checked_numbers('fill', fill, 3, 0, 255, whole=True)
        self.to_rgb = to_rgb
        self._pixel = image_order(self.fill, to_rgb).astype(np.uint8)

    def corrupt(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return a copy of ``image``, (H, W, 3) uint8, with blank squares."""
        mask = grid_mask(*image.shape[:2], self.patch_size, self.ratio, rng)
        return blank_pixels(image, mask, self._pixel)


@TRANSFORMS.register_module()
class RandomBlockMask(BaseCorruption):
    """Blank rectangles at random places; "Random small" and "Random large" in Table 1.

    Random small: 75 rectangles of area 0.01 to 0.025, which blank 68 % of a 224² image on average.
    Random large: 25 of area 0.02 to 0.05, 54 %. Both: aspect 0.5 to 2. The paper's "normalized
    size" is read as an area: as a side length, the rectangles would blank only 2 % of the image.

    Args:
        num_blocks: Number of rectangles, which may overlap.
        area_range: Smallest and largest share of the image, in 0..1; drawn uniformly.
        aspect_range: Smallest and largest width / height, in 0.001..1000; drawn uniformly. The
            paper does not say which way round the ratio is.
        fill, to_rgb, seed: As for :class:`GriddedMask`.
    """

    def __init__(
        self,
        num_blocks: int,
        area_range: tuple[float, float],
        aspect_range: tuple[float, float],
        fill: Sequence[int] = BLANK,
        to_rgb: bool = True,
        seed: int | None = None,
    ) -> None:
        super().__init__(seed)
        self.num_blocks = checked_int('num_blocks', num_blocks, minimum=1)
        self.area_range = checked_range('area_range', area_range, 0, 1)
        self.aspect_range = checked_range('aspect_range', aspect_range, 0.001, 1000)
        self.fill = checked_numbers('fill', fill, 3, 0, 255, whole=True)
        self.to_rgb = to_rgb
        self._pixel = image_order(self.fill, to_rgb).astype(np.uint8)

    def corrupt(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return a copy of ``image``, (H, W, 3) uint8, with blank rectangles."""
        mask = block_mask(
            *image.shape[:2], self.num_blocks, self.area_range, self.aspect_range, rng
        )
        return blank_pixels(image, mask, self._pixel)
