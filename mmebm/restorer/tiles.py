"""Overlapping tiles of a large image, and blending of what is computed on them: only arithmetic."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

# H × W pixels, C channels, h × w of a tile, B tiles in a batch, T tiles along an axis.


def padded_length(length: int, tile: int, align: int = 1) -> int:
    """The smallest length ≥ ``length`` that is ``tile`` plus a multiple of ``align``."""
    return tile + ceil(max(length - tile, 0) / align) * align


def tile_starts(length: int, tile: int, overlap: int, align: int = 1) -> list[int]:
    """Starts of the tiles along an axis: the fewest that overlap enough, evenly spread.

    T of them, from 0 to ``length − tile``, where ``length`` is padded; all are multiples of
    ``align``, for which the overlap may be smaller by less than that.
    """
    room = (length - tile) // align
    count = ceil(room / max((tile - overlap) // align, 1))
    return [0] if not count else [align * (i * room // count) for i in range(count + 1)]


def blend_weights(starts: Sequence[int], tile: int) -> np.ndarray:
    """Hann windows of T tiles along an axis, over their sum at each position: ``(T, tile)``."""
    window = np.sin(np.pi * (np.arange(tile) + 0.5) / tile) ** 2
    total = np.zeros(starts[-1] + tile)
    for start in starts:
        total[start : start + tile] += window
    return np.stack([window / total[s : s + tile] for s in starts]).astype(np.float32)


@dataclass(frozen=True)
class Tiling:
    """Tiles ``(h, w)`` over an image H × W, which is padded where they do not fit.

    Neighbours overlap by ``(vertical, horizontal)`` pixels and start at multiples of ``align``.
    """

    height: int
    width: int
    tile: tuple[int, int]
    overlap: tuple[int, int]
    align: int = 1

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width that the tiles cover together, ≥ H and ≥ W."""
        (height, width), align = self.tile, self.align
        return padded_length(self.height, height, align), padded_length(self.width, width, align)

    @property
    def starts(self) -> tuple[list[int], ...]:
        """Rows and columns at which tiles start."""
        axes = zip(self.padded, self.tile, self.overlap, strict=True)
        return tuple(tile_starts(*axis, self.align) for axis in axes)

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
    change: Callable[[np.ndarray], np.ndarray],
    tiling: Tiling,
    batch: int,
) -> None:
    """Add ``change(image + difference)``, computed on tiles and blended, to ``difference``.

    Besides the arguments, memory holds one row of tiles and one batch, however many there are.

    Args:
        image: padded, ``(H, W, C)``, uint8 or float32; not changed.
        difference: padded, ``(H, W, C)`` float32; changed in place.
        change: tiles ``(B, h, w, C)`` float32 → what to add to each.
        tiling: that padded both.
        batch: the most tiles that ``change`` gets.
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
        finished = (rows[i + 1] if i + 1 < len(rows) else y + height) - y
        difference[y : y + finished] += band[:finished]
        band[: height - finished] = band[finished:].copy()
        band[height - finished :] = 0
