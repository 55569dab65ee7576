"""The page of a pretraining run: what was learnt, curves, restored images."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..models.chain import Chain, draw_chains
from .history import Record
from .page import Chart, data_uri, render
from .verdict import FEW_IMAGES

WIDEST = 1200  # pixels of a drawn chain
CEILING = 100.0  # dB: PSNR of a perfect restoration, as in RestorationMetric


def report_page(
    history: Sequence[Record],
    images: int,
    borrowed: bool = False,
    chains: Sequence[tuple[Chain, str]] = (),
    **words: object,
) -> str:
    """Make the page: HTML in one file, which asks nothing of a network. All names are escaped.

    ``images`` and ``chains`` are held out, the latter titled by corruption, with their files. Of a
    ``borrowed`` patch, mean and variance are the original's. ``words``: ``title``; ``said``,
    sentences; ``skipped`` files; ``facts`` by name; ``settings``.
    """
    return render(
        'report.html',
        borrowed=borrowed,
        tiles=tiles(history, images, borrowed),
        charts=[c for c in charts(history, images, borrowed) if any(c.curves.values())],
        chains=[
            (chain.title, name, data_uri(draw_chains([replace(chain, title='')]), WIDEST))
            for chain, name in chains
        ],
        **words,
    )


def last(history: Sequence[Record], name: str) -> float | None:
    """The last value of a figure, if there is a finite one."""
    values = [r.figures[name] for r in history if np.isfinite(r.figures.get(name, np.nan))]
    return values[-1] if values else None


def tiles(history: Sequence[Record], images: int, borrowed: bool) -> list[tuple[str, str]]:
    """Headlines, name and value. Neither of fewer than 20 held-out images, nor a borrowed PSNR."""
    found, names = [], {'loss': ('loss', '{:.3g}')}
    if images >= FEW_IMAGES:
        names |= {
            'energy/auroc': (f'AUROC of the energy, {images} images', '{:.2f}'),
            'knn/accuracy': (f'kNN accuracy, {images} images', '{:.1%}'),
        }
        if not borrowed:
            names['restoration/psnr_gain'] = f'PSNR gain, {images} held-out images', '{:+.2f} dB'
    for name, (label, form) in names.items():
        value = last(history, name)
        if value is not None:
            found.append((label, form.format(value).replace('-', '−')))
    return found


def charts(history: Sequence[Record], images: int, borrowed: bool = False) -> list[Chart]:
    """Curves of what was logged, over iterations; ``images`` are held out."""

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
    gains = {} if borrowed else gains
    areas = {key: curve(name, False) for key, name in each('energy', 'auroc').items()}
    logged = {name for r in history if r.training for name in r.figures}
    steps = sorted(name for name in logged if name.startswith('distance_step'))
    distances = {name.replace('distance_', ''): curve(name, True) for name in steps}
    idle = [y for _, y in distances.get('step0', [])]
    level = ('of doing nothing', float(np.mean(idle))) if idle else None
    # 'lr' is that of the first group of parameters, which may be α's, ten times the network's
    rate = curve('base_lr' if 'base_lr' in logged else 'lr', True)
    knn, of = curve('knn/accuracy', False, 100), f' Held-out images: {images}.'
    return [
        Chart('Training loss', {'loss': curve('loss', True)}, level=level),
        Chart('PSNR gain', gains, ' dB', f'PSNR of restored minus PSNR of corrupted.{of}'),
        Chart('AUROC of the energy', areas, '', f'Corrupted against clean; 0.5 is chance.{of}'),
        Chart('kNN accuracy', {'kNN': knn}, ' %', f'Labels are never used in training.{of}'),
        Chart('Distance to the original', distances, '', 'Step 0 is the corrupted image.'),
        Chart('Step size α', {'α': curve('step_size', True)}),
        Chart('Learning rate', {'learning rate': rate}),
    ]
