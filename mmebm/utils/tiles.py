"""Overlapping tiles of a large image, and blending of what is computed on them.

Only arithmetic on arrays: no network, no colours.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from .checks import checked_int

# H × W pixels, C channels, h × w of a tile, B tiles in a batch, T tiles along an axis.

# Weights are multiples of 2⁻¹², so float32 adds products of two, multiples of 2⁻²⁴, exactly.
_QUANTA = 2**12

Change = Callable[[np.ndarray], np.ndarray]


def padded_length(length: int, tile: int, align: int = 1) -> int:
    """The smallest length ≥ ``length`` that is ``tile`` plus a multiple of ``align``."""
    return tile + ceil(max(length - tile, 0) / align) * align


def tile_starts(length: int, tile: int, overlap: int, align: int = 1) -> list[int]:
    """Starts of the tiles along an axis: the fewest that overlap enough, evenly spread.

    Args:
        length: of the axis, ≥ ``tile``; ``length − tile`` is a multiple of ``align``.
        tile: length of a tile, ≥ 1.
        overlap: of neighbours, in 0..tile−1. The actual overlap may be larger, to fill the length,
            or smaller by less than ``align``, to keep the starts aligned.
        align: every start is a multiple of it, in 1..tile.

    Returns:
        T starts, increasing, from 0 to ``length − tile``.

    Raises:
        TypeError, ValueError: a number is not an integer or out of range.
    """
    tile = checked_int('tile', tile, minimum=1)
    align = checked_int('align', align, minimum=1)
    length = checked_int('length', length, minimum=tile)
    if not 0 <= checked_int('overlap', overlap, minimum=0) < tile:
        raise ValueError(f'overlap must lie in 0..{tile - 1} (tile={tile}), got {overlap}')
    room, rest = divmod(length - tile, align)
    if rest:
        raise ValueError(
            f'length − tile must be a multiple of align={align}, got {length} − {tile}'
        )
    stride = max((tile - overlap) // align, 1)
    if stride * align > tile:
        raise ValueError(f'align must be ≤ tile = {tile}, got {align}')
    count = ceil(room / stride)
    return [0] if not count else [align * (i * room // count) for i in range(count + 1)]


def blend_weights(starts: Sequence[int], tile: int) -> np.ndarray:
    """Weights of the tiles along an axis: smooth, with a sum of exactly 1 at every position.

    Each tile's weight is a Hann window over the sum of all windows at that position.

    Args:
        starts: of T tiles, increasing from 0, without gaps between tiles.
        tile: length of a tile.

    Returns:
        ``(T, tile)`` float32 in [0, 1], multiples of 2⁻¹².
    """
    window = np.sin(np.pi * (np.arange(tile) + 0.5) / tile) ** 2
    places = [slice(start, start + tile) for start in starts]
    total = np.zeros(starts[-1] + tile)
    for place in places:
        total[place] += window
    shares = np.stack([np.rint(window / total[place] * _QUANTA) for place in places])
    left = np.full(len(total), _QUANTA, float)  # left by rounding; goes to the largest share
    largest = np.zeros(len(total))
    for place, share in zip(places, shares, strict=True):
        left[place] -= share
        np.maximum(largest[place], share, out=largest[place])
    for place, share in zip(places, shares, strict=True):
        owned = share == largest[place]
        share[owned] += left[place][owned]
        left[place][owned] = 0
    return (shares / _QUANTA).astype(np.float32)


@dataclass(frozen=True)
class Tiling:
    """Tiles over an image of a given size, which is padded where they do not fit.

    Args:
        height, width: H, W of the image, ≥ 1.
        tile: ``(h, w)``.
        overlap: of neighbours, ``(vertical, horizontal)`` in pixels.
        align: tiles start at multiples of it, ≥ 1.
    """

    height: int
    width: int
    tile: tuple[int, int]
    overlap: tuple[int, int]
    align: int = 1

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width that the tiles cover together, ≥ H and ≥ W."""
        return (
            padded_length(self.height, self.tile[0], self.align),
            padded_length(self.width, self.tile[1], self.align),
        )

    @property
    def starts(self) -> tuple[list[int], list[int]]:
        """Rows and columns at which tiles start."""
        rows, columns = (
            tile_starts(length, tile, overlap, self.align)
            for length, tile, overlap in zip(self.padded, self.tile, self.overlap, strict=True)
        )
        return rows, columns

    def __len__(self) -> int:
        rows, columns = self.starts
        return len(rows) * len(columns)

    def pad(self, image: np.ndarray) -> np.ndarray:
        """Mirror ``(H, W, C)`` below and to the right until the tiles fit; itself if they do."""
        below, right = self.padded[0] - self.height, self.padded[1] - self.width
        if not (below or right):
            return image
        return np.pad(image, ((0, below), (0, right), (0, 0)), mode='symmetric')

    def crop(self, image: np.ndarray) -> np.ndarray:
        """Undo :meth:`pad`; a view."""
        return image[: self.height, : self.width]


def add_change(
    image: np.ndarray,
    difference: np.ndarray,
    change: Change,
    tiling: Tiling,
    batch: int,
    on_tiles: Callable[[int], None] | None = None,
) -> None:
    """Add ``change(image + difference)``, computed on tiles and blended, to ``difference``.

    Besides the arguments, memory holds one row of tiles and one batch, however many tiles there
    are: rows of the image that no later tile reads are written back at once.

    Args:
        image: padded, ``(H, W, C)``, uint8 or float32; not changed.
        difference: padded, ``(H, W, C)`` float32; changed in place.
        change: tiles ``(B, h, w, C)`` float32 → what to add to each, of the same shape.
        tiling: that padded both.
        batch: tiles per call of ``change``, ≥ 1.
        on_tiles: called with the number of tiles after each batch.
    """
    rows, columns = tiling.starts
    (height, width), channels = tiling.tile, image.shape[2]
    down = blend_weights(rows, height)  # (T, h)
    across = blend_weights(columns, width)  # (T, w)
    band = np.zeros((height, image.shape[1], channels), np.float32)
    for i, y in enumerate(rows):
        for first in range(0, len(columns), batch):
            chunk = range(first, min(first + batch, len(columns)))
            boxes = [(slice(y, y + height), slice(columns[j], columns[j] + width)) for j in chunk]
            changes = change(np.stack([image[box] + difference[box] for box in boxes]))
            for j, (_, x), each in zip(chunk, boxes, changes, strict=True):
                weights = down[i][:, None] * across[j]  # (h, w)
                band[:, x] += weights[..., None] * each
            if on_tiles is not None:
                on_tiles(len(chunk))
        finished = (rows[i + 1] if i + 1 < len(rows) else y + height) - y
        difference[y : y + finished] += band[:finished]
        band[: height - finished] = band[finished:].copy()
        band[height - finished :] = 0
