"""The page of a pretraining run: curves, energies, restored images, neighbours, settings."""

from collections.abc import Mapping, Sequence

import numpy as np

from ..models.chain import Chain, to_uint8
from .history import Record
from .page import Chart, number, picture, render

CEILING = 100.0  # dB: PSNR of a perfect restoration, as in RestorationMetric
MOST_PICTURES = 6  # of a chain
Neighbour = tuple[np.ndarray, str, float]  # (H, W, 3) uint8 RGB, file, cosine similarity


def report_page(
    title: str,
    state: str = '',
    note: str = '',
    history: Sequence[Record] = (),
    energies: Mapping[str, tuple[Sequence[float], Sequence[float], float]] = {},
    chains: Sequence[tuple[Chain, str]] = (),
    neighbours: Sequence[Sequence[Neighbour]] = (),
    gallery: int = 0,
    **content: object,
) -> str:
    """Make the page: HTML in one file, which asks nothing of a network. All names are escaped.

    Args:
        title: of the page.
        state: how far the run is, in a sentence.
        note: on how to read its figures.
        history: what was logged.
        energies: corruption → energies of clean and of corrupted held-out images, and their AUROC.
        chains: of a few held-out images, titled by corruption; and their files.
        neighbours: a held-out image and those with the nearest features, in that order.
        gallery: number of images that the neighbours are found among.
        **content: ``skipped`` (unreadable files), ``facts`` and ``versions`` (name → value) and
            ``settings`` (the config, as text).
    """
    content = dict(skipped=(), facts={}, versions={}, settings='') | content
    return render(
        'report.html',
        title=title,
        state=state,
        note=note,
        tiles=tiles(history),
        charts=[chart for chart in charts(history) if any(chart.curves.values())],
        energies=energies,
        chains=[(chain.title, name, chain_pictures(chain)) for chain, name in chains],
        neighbours=[(row[0][1], neighbour_pictures(row)) for row in neighbours],
        gallery=gallery,
        **content,
    )


# Curves -----------------------------------------------------------------------------------------


def tiles(history: Sequence[Record]) -> list[tuple[str, str]]:
    """The last values of the figures that matter most: name and value, those that there are."""
    found = []
    for label, name, form in (
        ('PSNR gain, held out', 'restoration/psnr_gain', '{:+.2f} dB'),
        ('patches sorted right', 'sorting/accuracy', '{:.1%}'),
        ('AUROC of the energy', 'energy/auroc', '{:.3f}'),
        ('kNN accuracy', 'knn/accuracy', '{:.1%}'),
        ('loss', 'loss', '{:.3g}'),
    ):
        values = [r.figures[name] for r in history if name in r.figures]
        if values and np.isfinite(values[-1]):
            found.append((label, form.format(values[-1]).replace('-', '−')))
    return found


def charts(history: Sequence[Record]) -> list[Chart]:
    """Curves of what was logged, over iterations."""
    x_label = 'iterations'

    def curve(name: str, training: bool, scale: float = 1, less: str = ''):
        """The figure ``name``, minus another one at most 100 dB each if ``less`` names it."""
        points = []
        for r in (r for r in history if r.training == training and name in r.figures):
            y = r.figures[name] * scale
            if less:
                y = min(y, CEILING) - min(r.figures[less], CEILING)
            if np.isfinite(y):
                points.append((r.iteration, y))
        return points

    def each(metric: str, figure: str) -> dict[str, str]:
        """Corruption → the figure's name, or one name for all images where none is named."""
        names = dict.fromkeys(name for r in history if not r.training for name in r.figures)
        parts = [name.split('/') for name in names]
        found = {p[1]: '/'.join(p) for p in parts if len(p) == 3 and p[::2] == [metric, figure]}
        return dict(sorted(found.items())) or {'all images': f'{metric}/{figure}'}

    gains = {
        corruption: curve(name, False, less=f'{name}_corrupted')
        for corruption, name in each('restoration', 'psnr').items()
    }
    if len(gains) > 1:
        gains['mean'] = curve('restoration/psnr_gain', False)
    logged = {name for r in history if r.training for name in r.figures}
    steps = {name: int(name[13:]) for name in logged if name.startswith('distance_step')}
    distances = {
        f'after step {n}' if n else 'corrupted': curve(name, True)
        for name, n in sorted(steps.items(), key=lambda step: step[1])
    }
    chance = next((r.get('sorting/chance') for r in history if r.get('sorting/chance')), None)
    # 'lr' is that of the first group of parameters, which may be α's, ten times the network's
    rate = 'base_lr' if 'base_lr' in logged else 'lr'
    return [
        Chart('Training loss', x_label, {'loss': curve('loss', True)}),
        Chart(
            'PSNR gain on held-out images',
            x_label,
            gains,
            unit=' dB',
            note='How much closer to the original than the corrupted image is.',
        ),
        Chart(
            'Patches sorted right',
            x_label,
            {'after the descent': curve('sorting/accuracy', False, 100)},
            unit=' %',
            level=None if chance is None else ('chance', 100 * chance),
        ),
        Chart(
            'AUROC of the energy on held-out images',
            x_label,
            {key: curve(name, False) for key, name in each('energy', 'auroc').items()},
            note='Corrupted against clean: 0.5 is chance, 1 is perfect.',
        ),
        Chart(
            'Accuracy of nearest neighbours',
            x_label,
            {'kNN': curve('knn/accuracy', False, 100)},
            unit=' %',
            note='The class of a held-out image by its neighbours; labels are not trained on.',
        ),
        Chart('Distance to the original while training', x_label, distances),
        Chart('Step size α', x_label, {'α': curve('step_size', True)}),
        Chart('Learning rate', x_label, {'learning rate': curve(rate, True)}),
    ]


# Pictures ---------------------------------------------------------------------------------------


def chain_pictures(chain: Chain, most: int = MOST_PICTURES) -> list[dict]:
    """The original, the corrupted image, and steps to the restored one: ≥ 3, evenly chosen."""
    last = len(chain.images) - 1
    start, end = ('corrupted', 'restored') if chain.accuracy is None else ('shuffled', 'sorted')
    pictures = []
    if chain.clean is not None:
        energy = _energy(chain.clean_energy)
        alt = f'{chain.title}, original'
        pictures.append(picture(to_uint8(chain.clean), alt, 'original', energy))
    chosen = np.linspace(0, last, max(2, most - len(pictures))).round().astype(int)
    for n in np.unique(chosen):
        name = start if n == 0 else end if n == last else f'step {n}'
        figures = []
        if chain.accuracy is not None:
            figures.append(f'{chain.accuracy[n]:.0%} right')
        elif np.isfinite(chain.psnr[n]):
            figures.append(f'{chain.psnr[n]:.1f} dB')
        figures += _energy(chain.energies[n])
        pictures.append(picture(to_uint8(chain.images[n]), f'{chain.title}, {name}', name, figures))
    return pictures


def _energy(value: float | None) -> list[str]:
    return [] if value is None or not np.isfinite(value) else [f'E {number(value)}']


def neighbour_pictures(row: Sequence[Neighbour]) -> list[dict]:
    """The image and its neighbours, with their similarities."""
    (image, name, _), *found = row
    return [
        picture(image, f'{name}, whose neighbours follow', 'image'),
        *(picture(pixels, f'neighbour: {name}', '', [f'{s:.2f}']) for pixels, name, s in found),
    ]
