"""Pictures of descent chains: restored or sorted step by step."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from mmpretrain.structures import DataSample
from torch import Tensor

from ..models import BaseEnergyAlgorithm
from ..utils.heat_map import heat_map

# B batch, C channels, H × W pixels, N descent steps.


@dataclass
class Chain:
    """One image on its way from corrupted to restored, or from shuffled to sorted.

    Attributes:
        images: x⁰ (the corrupted image) to x^N, ``(N + 1, H, W, 3)`` float, RGB in pixel units;
            values may lie outside 0..255.
        energies: of each of them, ``(N + 1,)``.
        clean: the original ``(H, W, 3)`` in the same units, or None if there is none.
        clean_energy: its energy, or None.
        title: text for the row, such as a file name or a corruption.
        accuracy: for a sorted image, the share of patches in the right place in each of ``images``,
            ``(N + 1,)`` in [0, 1]; None for a restored one.
    """

    images: np.ndarray
    energies: np.ndarray
    clean: np.ndarray | None = None
    clean_energy: float | None = None
    title: str = ''
    accuracy: np.ndarray | None = None

    @property
    def psnr(self) -> np.ndarray:
        """PSNR of each image against the original, ``(N + 1,)`` in dB; NaN without an original.

        Pixels are not clipped, as in :class:`mmebm.RestorationMetric`.
        """
        if self.clean is None:
            return np.full(len(self.images), np.nan)
        squared_error = ((self.images - self.clean) ** 2).mean((1, 2, 3))
        with np.errstate(divide='ignore'):
            return 10 * np.log10(255.0**2 / squared_error)

    @property
    def heat(self) -> np.ndarray:
        """Where the descent changes the image, x^N − x⁰: ``(H, W)`` float32 in grey levels, ≥ 0.

        See :func:`mmebm.utils.heat_map.heat_map`. The score beside it is ``energies[0]``.
        """
        return heat_map(self.images[-1] - self.images[0])


def to_chains(
    model: BaseEnergyAlgorithm,
    inputs: Tensor | Sequence[Tensor],
    data_samples: Sequence[DataSample] | None = None,
    num_steps: int | None = None,
) -> list[Chain]:
    """Restore or sort a validation batch and measure its energies.

    Args:
        model: the algorithm, in the mode (training or evaluation) to use.
        inputs: what its data preprocessor returns: ``[corrupted, clean]`` for restoring, images for
            sorting, each ``(B, C, H, W)``, normalised.
        data_samples: B samples; their ``corruption``, if any, becomes the title. Sorting needs
            their ``sample_idx``; None numbers the images from 0.
        num_steps: N ≥ 0. Defaults to the number used in training.

    Returns:
        B chains, in pixel units.
    """
    batch = model.validation_chain(inputs, data_samples, num_steps)
    images, clean = (x.movedim(-3, -1).cpu().numpy() for x in (batch.images, batch.clean))
    energies, clean_energies = batch.energies.cpu().numpy(), batch.clean_energies.tolist()
    accuracy = None if batch.accuracy is None else batch.accuracy.cpu().numpy()
    titles = [sample.get('corruption', '') for sample in data_samples or [{}] * len(clean)]
    return [
        Chain(
            images=images[:, i],
            energies=energies[:, i],
            clean=clean[i],
            clean_energy=clean_energies[i],
            title=titles[i],
            accuracy=None if accuracy is None else accuracy[:, i],
        )
        for i in range(len(clean))
    ]


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Round and clip pixels ``(..., 3)`` to 0..255 for display."""
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def draw_chains(chains: Sequence[Chain], across: int = 1, cell: float = 1.5) -> np.ndarray:
    """Draw chains: original, corrupted and every descent step side by side, with captions.

    Args:
        chains: at least one, all with the same number of steps.
        across: number of chains side by side in a row, ≥ 1.
        cell: side of a picture in inches, at 150 dots per inch, > 0.

    Returns:
        The drawing, ``(H, W, 3)`` uint8 RGB.

    Raises:
        ValueError: there is no chain, or ``across`` is below 1.
    """
    import matplotlib  # slow to import
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not chains:
        raise ValueError('draw_chains needs at least one chain')
    if across < 1:
        raise ValueError(f'across must be ≥ 1, got {across}')
    with_clean = any(chain.clean is not None for chain in chains)
    columns = len(chains[0].images) + with_clean
    blocks = min(across, len(chains))
    rows = -(-len(chains) // blocks)
    caption, heading_height, gap = 0.36, 0.4, 0.3  # inches: below a picture, above all, between
    width = blocks * columns * cell + (blocks - 1) * gap
    height = rows * (cell + caption) + heading_height
    figure = Figure((width, height), dpi=150)
    with matplotlib.rc_context({'font.size': 7}):
        for number, chain in enumerate(chains):
            row, block = divmod(number, blocks)
            bottom = height - heading_height - row * (cell + caption) - cell
            for column, (heading, image, below) in enumerate(_cells(chain, with_clean)):
                left = block * (columns * cell + gap) + column * cell
                box = ((left + 0.03) / width, bottom / height, (cell - 0.06) / width, cell / height)
                axes = figure.add_axes(box)
                axes.set_axis_off()
                if image is not None:
                    axes.imshow(to_uint8(image), interpolation='nearest')
                axes.text(0.5, -0.03, below, transform=axes.transAxes, ha='center', va='top')
                if row == 0:
                    axes.text(
                        0.5, 1.05, heading, transform=axes.transAxes, ha='center', va='bottom',
                        weight='bold',
                    )  # fmt: skip
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _cells(chain: Chain, with_clean: bool):
    """Heading, picture and caption of each cell of a row."""
    if with_clean:
        energy = '' if chain.clean_energy is None else f'E {chain.clean_energy:.3g}'
        yield 'original', chain.clean, f'{chain.title}\n{energy}'
    for n, (image, energy, psnr) in enumerate(
        zip(chain.images, chain.energies, chain.psnr, strict=True)
    ):
        start = 'corrupted' if chain.accuracy is None else 'shuffled'
        heading = start if n == 0 else f'step {n}'
        if not with_clean and n == 0:
            heading = chain.title or 'input'
        below = f'E {energy:.3g}'
        if chain.accuracy is not None:
            below = f'{chain.accuracy[n]:.0%} right\n{below}'
        elif not np.isnan(psnr):
            below = f'{psnr:.2f} dB\n{below}'
        yield heading, image, below
