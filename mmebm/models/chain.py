"""What a descent leaves of one image: a picture and an energy for every step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmpretrain.structures import DataSample
from scipy.ndimage import gaussian_filter
from torch import Tensor

# B batch, C channels, H × W pixels, N descent steps.


@dataclass
class Chain:
    """One image on its way from corrupted to restored, or from shuffled to sorted.

    Attributes:
        images: x⁰ (the corrupted image) to x^N, N + 1 of ``(H, W, 3)`` RGB in pixel units, float32
            or uint8; values may lie outside 0..255.
        energies: of each of them, ``(N + 1,)``; NaN where it was not measured.
        clean: the original ``(H, W, 3)`` in the same units, or None if it is not known.
        clean_energy: its energy, or None.
        title: text for the row, such as a corruption.
        accuracy: for a sorted image, the share of patches in the right place in each of ``images``,
            ``(N + 1,)`` in [0, 1]; None for a restored one.
        picture: x⁰ with what else its file holds (:class:`mmebm.restorer.Picture`), or None.
    """

    images: Sequence[np.ndarray]
    energies: np.ndarray
    clean: np.ndarray | None = None
    clean_energy: float | None = None
    title: str = ''
    accuracy: np.ndarray | None = None
    picture: Any = None

    @property
    def psnr(self) -> np.ndarray:
        """PSNR of each image against the original, ``(N + 1,)`` in dB; NaN without an original.

        Pixels are not clipped, as in :class:`mmebm.RestorationMetric`.
        """
        if self.clean is None:
            return np.full(len(self.images), np.nan)
        with np.errstate(divide='ignore'):
            return np.array([10 * np.log10(255**2 / self._error(x)) for x in self.images])

    def _error(self, image: np.ndarray) -> float:
        """Mean square, row by row, so that a large image needs no copy in float64."""
        rows = (np.subtract(a, b, dtype=float) for a, b in zip(image, self.clean, strict=True))
        return np.mean([np.square(row).mean() for row in rows])

    @property
    def heat(self) -> np.ndarray:
        """Where the descent changes the image, :func:`heat_map` of x^N − x⁰: ``(H, W)``."""
        return heat_map(np.subtract(self.images[-1], self.images[0], dtype=np.float32))


def split_chains(
    images: Tensor,
    energies: Tensor,
    clean: Tensor,
    clean_energies: Tensor,
    accuracy: Tensor | None = None,
    data_samples: Sequence[DataSample] | None = None,
) -> list[Chain]:
    """The B chains of a batch: images ``(N + 1, B, C, H, W)`` in pixel units, the rest by image.

    ``clean`` is ``(B, C, H, W)``; a sample's ``corruption``, if any, becomes the title.
    """
    images, clean = (x.movedim(-3, -1).cpu().numpy() for x in (images, clean))
    return [
        Chain(
            images=images[:, i],
            energies=energies[:, i].cpu().numpy(),
            clean=clean[i],
            clean_energy=clean_energies[i].item(),
            title=sample.get('corruption', ''),
            accuracy=None if accuracy is None else accuracy[:, i].cpu().numpy(),
        )
        for i, sample in enumerate(data_samples or [{}] * len(clean))
    ]


def heat_map(change: np.ndarray, size: int | None = None) -> np.ndarray:
    """Size of a change at each pixel: root mean square over colours and a Gaussian neighbourhood.

    Args:
        change: ``(H, W, C)``, what a descent changes, x^N − x⁰, or would change, α∇E.
        size: side of the network's images in pixels, the shorter one of the change by default; the
            Gaussian's σ is a sixteenth of it.

    Returns:
        ``(H, W)`` float32 ≥ 0, in the unit of ``change``.
    """
    size = min(change.shape[:2]) if size is None else size
    power = np.square(change, dtype=np.float32).mean(2)
    return np.sqrt(np.maximum(gaussian_filter(power, size / 16), 0))


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Round and clip pixels ``(H, W, ...)`` to 0..255; row by row, to save memory."""
    if image.dtype == np.uint8:
        return image
    result = np.empty(image.shape, np.uint8)
    for row, values in zip(result, image, strict=True):
        row[:] = np.clip(np.rint(values), 0, 255)
    return result


def draw_chains(chains: Sequence[Chain], across: int = 1, cell: float = 1.5) -> np.ndarray:
    """Draw chains: original, corrupted and every descent step side by side, with captions.

    Args:
        chains: at least one, all with the same number of steps.
        across: number of chains side by side in a row, ≥ 1.
        cell: side of a picture in inches, at 150 dots per inch, > 0.

    Returns:
        The drawing, ``(H, W, 3)`` uint8 RGB.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
    from matplotlib.figure import Figure

    if not chains:
        raise ValueError('draw_chains needs at least one chain')
    if across < 1:
        raise ValueError(f'across must be ≥ 1, got {across}')
    with_clean = any(chain.clean is not None for chain in chains)
    columns = len(chains[0].images) + with_clean
    blocks = min(across, len(chains))
    rows = -(-len(chains) // blocks)
    height = rows * (cell + 0.4) + 0.3  # inches: captions below the pictures, a heading above all
    figure = Figure((blocks * columns * cell, height), dpi=150)
    canvas = FigureCanvasAgg(figure)
    margins = dict(left=0, right=1, top=1 - 0.3 / height, bottom=0.4 / height)
    margins |= dict(wspace=0.04, hspace=0.4 / cell)
    options = dict(gridspec_kw=margins, subplot_kw=dict(xticks=[], yticks=[]))  # which take time
    grid = figure.subplots(rows, blocks * columns, squeeze=False, **options)
    for axes in grid.flat:
        axes.set_axis_off()
    for number, chain in enumerate(chains):
        row, block = divmod(number, blocks)
        line = grid[row, block * columns : (block + 1) * columns]
        for axes, (heading, image, below) in zip(line, _cells(chain, with_clean), strict=True):
            if image is not None:
                axes.imshow(to_uint8(image), interpolation='nearest')
            if row == 0:
                axes.set_title(heading, size=7, weight='bold', pad=3, y=1)
            axes.text(0.5, -0.03, below, size=7, ha='center', va='top', transform=axes.transAxes)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _cells(chain: Chain, with_clean: bool):
    """Heading, picture and caption of each cell of a row."""
    if with_clean:
        energy = '' if chain.clean_energy is None else f'E {chain.clean_energy:.3g}'
        yield 'original', chain.clean, f'{chain.title}\n{energy}'
    steps = zip(chain.images, chain.energies, chain.psnr, strict=True)
    for n, (image, energy, psnr) in enumerate(steps):
        heading = f'step {n}' if n else 'corrupted' if chain.accuracy is None else 'shuffled'
        if not with_clean and n == 0:
            heading = chain.title or 'input'
        below = f'E {energy:.3g}'
        if chain.accuracy is not None:
            below = f'{chain.accuracy[n]:.0%} right\n{below}'
        elif not np.isnan(psnr):
            below = f'{psnr:.2f} dB\n{below}'
        yield heading, image, below
