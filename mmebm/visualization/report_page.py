"""The page of a pretraining run: curves, energies, restored images, neighbours, settings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..models.chain import Chain, to_uint8
from ..utils.run_history import Record
from .page import Chart, Curve, Picture, number, render

CEILING = 100.0  # dB: PSNR of a perfect restoration, as in RestorationMetric
MOST_PICTURES = 6  # of a chain
MOST_FILES = 50  # that are listed by name


@dataclass(frozen=True)
class Energies:
    """Of held-out images with one corruption.

    Attributes:
        corruption: its name.
        clean, corrupted: ``(B,)`` each.
        auroc: how well they are told apart, in [0, 1].
    """

    corruption: str
    clean: Sequence[float]
    corrupted: Sequence[float]
    auroc: float


@dataclass(frozen=True)
class Neighbours:
    """An image, and those whose features are nearest.

    Attributes:
        image: ``(H, W, 3)`` uint8 RGB.
        name: its file.
        found: picture, name and cosine similarity of each, the nearest first.
    """

    image: np.ndarray
    name: str
    found: Sequence[tuple[np.ndarray, str, float]]


@dataclass
class RunReport:
    """All that the page shows. What is empty is left out.

    Attributes:
        title: of the page.
        state: how far the run is, in a sentence.
        note: on how to read its figures.
        history: what was logged.
        iterations_per_epoch: of a pass over the images; None if the run counts iterations.
        energies: per corruption.
        chains: of a few held-out images, titled by corruption.
        names: of their files.
        neighbours: of a few held-out images.
        gallery: number of images that the neighbours are found among.
        skipped: files that could not be read.
        facts: name → value: data, device, time.
        versions: package → version.
        settings: the config, as text.
    """

    title: str
    state: str = ''
    note: str = ''
    history: Sequence[Record] = ()
    iterations_per_epoch: float | None = None
    energies: Sequence[Energies] = ()
    chains: Sequence[Chain] = ()
    names: Sequence[str] = ()
    neighbours: Sequence[Neighbours] = ()
    gallery: int = 0
    skipped: Sequence[str] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    settings: str = ''


def report_page(report: RunReport) -> str:
    """Make the page: HTML in one file, which asks nothing of a network. All names are escaped."""
    return render(
        'report.html',
        title=report.title,
        report=report,
        tiles=tiles(report.history),
        charts=[c for c in charts(report.history, report.iterations_per_epoch) if c.shown],
        chains=[
            (chain.title, name, chain_pictures(chain))
            for chain, name in zip(report.chains, report.names, strict=True)
        ],
        neighbours=[(n.name, neighbour_pictures(n)) for n in report.neighbours],
        most_files=MOST_FILES,
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
        ('step size α', 'step_size', '{:,.4g}'),
    ):
        values = [r.figures[name] for r in history if name in r.figures]
        if values and np.isfinite(values[-1]):
            found.append((label, form.format(values[-1]).replace('-', '−')))
    return found


def charts(history: Sequence[Record], iterations_per_epoch: float | None = None) -> list[Chart]:
    """Curves of what was logged, over epochs if their length is given, else over iterations."""
    x_label = 'epochs' if iterations_per_epoch else 'iterations'
    training = [r for r in history if r.training]
    validation = [r for r in history if not r.training]

    def curve(name: str, records: Sequence[Record], value: Callable[[Record], float | None]):
        points = [(r.iteration / (iterations_per_epoch or 1), value(r)) for r in records]
        points = [(x, y) for x, y in points if y is not None]
        return Curve(name, [x for x, _ in points], [y for _, y in points])

    def logged(label: str, name: str, records: Sequence[Record], scale: float = 1):
        def value(r: Record) -> float | None:
            return None if r.get(name) is None else scale * r.get(name)

        return curve(label, records, value)

    def per_corruption(metric: str, figure: str) -> list[str]:
        """Names of the corruptions, or '' for all images where no corruption is named."""
        keys = list(dict.fromkeys(key for r in validation for key in r.figures))
        parts = [key.split('/') for key in keys]
        named = [p[1] for p in parts if len(p) == 3 and (p[0], p[2]) == (metric, figure)]
        return sorted(named) or ['']

    def key(metric: str, corruption: str, figure: str) -> str:
        return '/'.join(part for part in (metric, corruption, figure) if part)

    def gain(corruption: str) -> Callable[[Record], float | None]:
        def value(r: Record) -> float | None:
            after = r.get(key('restoration', corruption, 'psnr'))
            before = r.get(key('restoration', corruption, 'psnr_corrupted'))
            if after is None or before is None:
                return None
            return min(after, CEILING) - min(before, CEILING)

        return value

    steps = sorted(
        {name for r in training for name in r.figures if name.startswith('distance_step')},
        key=lambda name: int(name.removeprefix('distance_step')),
    )
    gains = [
        curve(corruption or 'all images', validation, gain(corruption))
        for corruption in per_corruption('restoration', 'psnr')
    ]
    if len(gains) > 1:
        gains.append(logged('mean', 'restoration/psnr_gain', validation))
    # 'lr' is that of the first group of parameters, which may be α's, ten times the network's
    rate = 'base_lr' if any(r.get('base_lr') is not None for r in training) else 'lr'
    chance = next((r.get('sorting/chance') for r in validation if r.get('sorting/chance')), None)
    return [
        Chart('Training loss', x_label, [logged('loss', 'loss', training)]),
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
            [logged('after the descent', 'sorting/accuracy', validation, 100)],
            unit=' %',
            level=None if chance is None else ('chance', 100 * chance),
        ),
        Chart(
            'AUROC of the energy on held-out images',
            x_label,
            [
                logged(corruption or 'all images', key('energy', corruption, 'auroc'), validation)
                for corruption in per_corruption('energy', 'auroc')
            ],
            note='Corrupted against clean: 0.5 is chance, 1 is perfect.',
        ),
        Chart(
            'Accuracy of nearest neighbours',
            x_label,
            [logged('kNN', 'knn/accuracy', validation, 100)],
            unit=' %',
            note='The class of a held-out image by its neighbours; labels are not trained on.',
        ),
        Chart(
            'Distance to the original while training',
            x_label,
            [
                logged('corrupted' if n == 0 else f'after step {n}', name, training)
                for n, name in enumerate(steps)
            ],
        ),
        Chart('Step size α', x_label, [logged('α', 'step_size', training)]),
        Chart('Learning rate', x_label, [logged('learning rate', rate, training)]),
    ]


# Pictures ---------------------------------------------------------------------------------------


def chain_pictures(chain: Chain, most: int = MOST_PICTURES) -> list[Picture]:
    """The original, the corrupted image, and steps to the restored one: ≥ 3, evenly chosen."""
    last = len(chain.images) - 1
    start, end = ('corrupted', 'restored') if chain.accuracy is None else ('shuffled', 'sorted')
    pictures = []
    if chain.clean is not None:
        pictures.append(
            Picture(
                to_uint8(chain.clean),
                f'{chain.title}, original',
                'original',
                _energy(chain.clean_energy),
            )
        )
    chosen = np.unique(np.linspace(0, last, max(2, most - len(pictures))).round().astype(int))
    for n in chosen:
        name = start if n == 0 else end if n == last else f'step {n}'
        figures = []
        if chain.accuracy is not None:
            figures.append(f'{chain.accuracy[n]:.0%} right')
        elif np.isfinite(chain.psnr[n]):
            figures.append(f'{chain.psnr[n]:.1f} dB')
        figures += _energy(chain.energies[n])
        pictures.append(Picture(to_uint8(chain.images[n]), f'{chain.title}, {name}', name, figures))
    return pictures


def _energy(value: float | None) -> list[str]:
    return [] if value is None or not np.isfinite(value) else [f'E {number(value)}']


def neighbour_pictures(neighbours: Neighbours) -> list[Picture]:
    """The image and its neighbours, with their similarities."""
    return [
        Picture(neighbours.image, f'{neighbours.name}, whose neighbours follow', 'image'),
        *(
            Picture(image, f'neighbour: {name}', '', [f'{similarity:.2f}'])
            for image, name, similarity in neighbours.found
        ),
    ]
