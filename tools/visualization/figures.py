"""Draw the paper's figures, and pictures of its Tables 1 and 2, from runs of any size.

python tools/visualization/figures.py 1 CHECKPOINT [IMAGE|FOLDER]       chains of restoration
python tools/visualization/figures.py 3 CHECKPOINT [IMAGE|FOLDER]       every corruption, restored
python tools/visualization/figures.py A FOLDER                          accuracy against N
python tools/visualization/figures.py B WORK_DIR                        loss of a run
python tools/visualization/figures.py table1 [FOLDER|results.csv]       masks
python tools/visualization/figures.py table2 [FOLDER|results.csv]       scales, and other tasks
python tools/visualization/figures.py benchmark results.csv             accuracy against compute

A FOLDER has a sub-folder per row, as docs/paper.md names them, with the row's finetuning run in
ROW/finetuning; or a results.csv of ``mmebm benchmark``. Figure A reads N at the end of the
sub-folders' names, and a results.csv inside them, too. The tables without a source show the
paper's numbers. The left part of Figure 1, from noise to an image in hundreds of steps, shows how
other energy-based models sample; this method never does that, so it is not drawn.
"""

import argparse
import csv
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from statistics import mean, stdev

import matplotlib
import numpy as np
import skimage.data
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from mmebm.cli.errors import one_line_errors
from mmebm.cli.parser import OneLineParser
from mmebm.datasets.files import find_images
from mmebm.restorer import (
    Damage,
    Restorer,
    draw_chains,
    parse_corruption,
    to_uint8,
)
from mmebm.utils.run_history import read_history
from mmebm.visualization.benchmark_page import draw_results, summarised

# Figure 3's, in pixels of 224² images.
PAPER_SIZE = 224
LARGE = dict(num_blocks=25, area_range=(0.02, 0.05), aspect_range=(0.5, 2.0))
SMALL = dict(num_blocks=75, area_range=(0.01, 0.025), aspect_range=(0.5, 2.0))

# ImageNet-1K top-1 in % of ViT-S, 100 + 100 epochs.
SHARES = (10, 30, 50, 70, 90)
PAPER_TABLE_1 = {
    **{f'gridded16-{s}': v for s, v in zip(SHARES, (76.7, 78.3, 78.7, 79.0, 78.8), strict=True)},
    **{f'gridded24-{s}': v for s, v in zip(SHARES, (76.8, 78.2, 78.7, 79.2, 78.8), strict=True)},
    **{f'gridded32-{s}': v for s, v in zip(SHARES, (77.1, 78.4, 78.6, 79.0, 78.7), strict=True)},
    'random-small': 79.3,
    'random-large': 79.7,
    'MAE, 400 epochs': 78.3,
    'scratch': 76.6,
}
PAPER_TABLE_2 = {
    **{'sr8': 77.1, 'sr14': 78.2, 'sr16': 79.6, 'sr24': 78.4, 'sr32': 76.3},
    **{'denoising': 79.2, 'colorization': 79.5, 'sorting': 79.5, 'scratch': 76.6},
    **{'ae-sr16': 77.1, 'ae-denoising': 76.8, 'ae-sorting': 77.2},
}
PHOTOGRAPHS = ('astronaut', 'coffee', 'chelsea', 'rocket')
COLOURS = [to_hex(colour) for colour in matplotlib.colormaps['tab10'].colors]


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line, or ``argv``."""
    parser = OneLineParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    figures = parser.add_subparsers(dest='figure', required=True, metavar='FIGURE')
    for name in ('1', '3'):
        pictures = figures.add_parser(name)
        pictures.add_argument('checkpoint', metavar='CHECKPOINT')
        pictures.add_argument(
            'images', nargs='?', metavar='IMAGE|FOLDER', help="by default scikit-image's"
        )
        pictures.add_argument('--config', help='needed only where the checkpoint holds none')
        pictures.add_argument('--num', type=int, default=4 if name == '1' else 2, help='of images')
        pictures.add_argument('--num-steps', type=int, help='defaults to the number trained with')
        pictures.add_argument('--seed', type=int, default=0, help='of the corruptions')
    figures.choices['1'].add_argument(
        '--corruption',
        nargs='+',
        default=['config'],
        metavar=('NAME', 'KEY=VALUE'),
        help='defaults to the one that the network was validated with',
    )
    figures.choices['3'].add_argument(
        '--scale',
        type=float,
        help="of the paper's cells; defaults to the network's size divided by 224",
    )
    figures.choices['3'].add_argument(
        '--network',
        nargs='+',
        default=[],
        metavar='NAME=CHECKPOINT',
        help='another network for a corruption, as the paper has: GaussianNoise=noise.pth',
    )
    steps = figures.add_parser('A')
    steps.add_argument('source', metavar='FOLDER')
    loss = figures.add_parser('B')
    loss.add_argument('source', metavar='WORK_DIR')
    for name in ('table1', 'table2'):
        figures.add_parser(name).add_argument('source', nargs='?', metavar='FOLDER|results.csv')
    figures.add_parser('benchmark').add_argument('source', metavar='results.csv')
    for name in ('A', 'table1', 'table2'):
        figures.choices[name].add_argument(
            '--protocol',
            choices=('finetune', 'probe', 'knn'),
            default='finetune',
            help='which accuracy of a results.csv',
        )
    for name, each in figures.choices.items():
        each.add_argument('--output', default=f'figure_{name}.png', help='picture to write')
    args = parser.parse_args(argv)
    if args.figure in '13' and args.num < 1:
        parser.error(f'--num must be ≥ 1, got {args.num}')
    return args


# Pictures of images -----------------------------------------------------------------------------


def chosen_images(path: str | None, count: int) -> list[Path | np.ndarray]:
    """Files, evenly spread; or photographs inside scikit-image, ``(H, W, 3)`` uint8 BGR."""
    if path is None:
        found = [getattr(skimage.data, name)()[..., ::-1].copy() for name in PHOTOGRAPHS]
    else:
        found, _ = find_images(path)
    spread = np.linspace(0, len(found) - 1, min(count, len(found))).round().astype(int)
    return [found[i] for i in spread]


def figure_1(args: argparse.Namespace) -> np.ndarray:
    """A row per image: the original, then the chain from corrupted to restored."""
    restore = Restorer(args.checkpoint, args.config)
    corruption = parse_corruption(args.corruption)
    chains = [
        restore(
            restore.crop(image),
            Damage(None, None, False, corruption, args.seed, index),
            args.num_steps,
        )
        for index, image in enumerate(chosen_images(args.images, args.num))
    ]
    return draw_chains(chains, across=2 if len(chains) > 2 else 1)


def figure_3_corruptions(scale: float) -> dict[str, dict]:
    """Title → config of the corruptions that Figure 3 names, those in pixels ``scale`` as large."""

    def pixels(count: int) -> int:
        return max(1, round(count * scale))

    return {
        **{
            f'gridded, {pixels(side)} pixels': dict(
                type='GriddedMask', patch_size=pixels(side), ratio=0.5
            )
            for side in (16, 32)
        },
        'random large': dict(type='RandomBlockMask', **LARGE),
        'random small': dict(type='RandomBlockMask', **SMALL),
        **{
            f'super-resolution {pixels(side)}×': dict(type='SuperResolution', scale=pixels(side))
            for side in (12, 16)
        },
        'denoising': dict(type='GaussianNoise', gamma_range=(0.3, 0.7)),
        'colorization': dict(type='Colorization'),
    }


def figure_3(args: argparse.Namespace) -> Figure:
    """Corrupted, original, restored, of each corruption; the same images for all."""
    networks = {}
    for pair in args.network:
        name, sign, checkpoint = pair.partition('=')
        if not (name and sign and checkpoint):
            raise ValueError(f'--network takes NAME=CHECKPOINT, got {pair!r}')
        networks[name] = Restorer(checkpoint)
    usual = Restorer(args.checkpoint, args.config)
    images = chosen_images(args.images, args.num)
    scale = args.scale
    if scale is None:
        scale = usual.size[0] / PAPER_SIZE
    if not scale > 0:
        raise ValueError(f'--scale must be > 0, got {scale}')
    corruptions = figure_3_corruptions(scale)
    unknown = set(networks) - {config['type'] for config in corruptions.values()}
    if unknown:
        raise ValueError(f'--network names {sorted(unknown)}, which Figure 3 does not have')

    triptychs = {}
    for title, corruption in corruptions.items():
        restore = networks.get(corruption['type'], usual)
        chains = [
            restore(
                restore.crop(image),
                Damage(None, None, False, corruption, args.seed, index),
                args.num_steps,
            )
            for index, image in enumerate(images)
        ]
        triptychs[title] = [(c.images[0], c.clean, c.images[-1]) for c in chains]
    return draw_triptychs(triptychs)


def draw_triptychs(triptychs: dict[str, list[tuple[np.ndarray, ...]]], across: int = 4) -> Figure:
    """Draw corrupted, original and restored images, ``across`` corruptions side by side.

    Args:
        triptychs: title → the three of each image, ``(H, W, 3)`` RGB in pixel units.
        across: corruptions in a row.
    """
    rows, cell = -(-len(triptychs) // across), 1.15
    count = len(next(iter(triptychs.values())))
    figure = Figure((3.2 * across * cell, rows * (count * cell + 0.45)), layout='constrained')
    FigureCanvasAgg(figure)
    blocks = figure.subfigures(rows, across, squeeze=False).flat
    for block, (title, images) in zip(blocks, triptychs.items(), strict=False):
        block.suptitle(title, fontsize=9, weight='bold')
        axes = block.subplots(count, 3, squeeze=False)
        for row, three in zip(axes, images, strict=True):
            for axis, image in zip(row, three, strict=True):
                axis.imshow(to_uint8(image), interpolation='nearest')
                axis.set_axis_off()
        for axis, heading in zip(axes[0], ('corrupted', 'original', 'restored'), strict=True):
            axis.set_title(heading, fontsize=7, pad=2)
    return figure


# Curves -----------------------------------------------------------------------------------------


def read_accuracies(source: Path, protocol: str) -> dict[str, list[float]]:
    """Accuracies in % by name of the row, one for each seed.

    Args:
        source: a ``results.csv`` of ``mmebm benchmark``, a folder with one, or a folder of rows
            with a finetuning run each.
        protocol: which rows of the ``results.csv``.

    Raises:
        FileNotFoundError: there is nothing to read.
        ValueError: the table has no such accuracy.
    """
    if source.is_dir() and not (source / 'results.csv').is_file():
        found = {
            folder.parent.name: [value]
            for folder in sorted(source.glob('*/finetuning'))
            if (value := finetuned_accuracy(folder)) is not None
        }
        if not found:
            raise FileNotFoundError(
                f'{source} has neither a results.csv nor a ROW/finetuning with a validated run'
            )
        return found
    file = source / 'results.csv' if source.is_dir() else source
    by_method = defaultdict(
        lambda: defaultdict(list)
    )  # method → epochs of pretraining → accuracies
    with open(file, newline='') as opened:
        for row in csv.DictReader(opened):
            if row['split'] == 'test' and row['protocol'] == protocol:
                epochs = int(row['pretraining_epochs'])
                by_method[row['method']][epochs].append(float(row['accuracy']))
    if not by_method:
        raise ValueError(f'{file} has no accuracy by {protocol} on test images')
    return {method: epochs[max(epochs)] for method, epochs in by_method.items()}


def finetuned_accuracy(work_dir: Path) -> float | None:
    """Top-1 accuracy in % of the last validation of a run, or None if there was none."""
    history = read_history(work_dir, iterations_per_epoch=1)
    found = [r.get('accuracy/top1') for r in history if not r.training]
    found = [value for value in found if value is not None]
    return found[-1] if found else None


def accuracies_against_steps(source: Path, protocol: str) -> dict[int, list[float]]:
    """Accuracies in % by N, the number at the end of a sub-folder's name.

    Raises:
        FileNotFoundError: no sub-folder has one.
        ValueError: a ``results.csv`` has no method, or several, that descend on an energy.
    """
    found = {}
    for folder in sorted(source.iterdir()) if source.is_dir() else []:
        number = re.search(r'(\d+)$', folder.name)
        if number is None or not folder.is_dir():
            continue
        if (folder / 'results.csv').is_file():
            rows = read_accuracies(folder, protocol)
            methods = [name for name in rows if name.startswith('energy-')]
            if len(methods) != 1:
                raise ValueError(f'{folder}/results.csv must have one energy-* method: {methods}')
            found[int(number[1])] = rows[methods[0]]
        elif (value := finetuned_accuracy(folder / 'finetuning')) is not None:
            found[int(number[1])] = [value]
    if not found:
        raise FileNotFoundError(
            f'{source} has no sub-folder whose name ends in N, with finetuning/ or results.csv'
        )
    return dict(sorted(found.items()))


def new_axes(x: str, y: str) -> Axes:
    """The axes of a new figure."""
    figure = Figure((5.6, 3.8), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(color='0.9')
    axes.spines[['top', 'right']].set_visible(False)
    return axes


def plot_accuracies(
    axes: Axes, points: dict[float, list[float]], label: str, colour: str, style: str = 'o-'
) -> None:
    """Means over the seeds, with their standard deviation where there are several."""
    x = sorted(points)
    spread = [stdev(points[n]) if len(points[n]) > 1 else 0.0 for n in x]
    y = [mean(points[n]) for n in x]
    axes.errorbar(x, y, spread if any(spread) else None, None, style, color=colour, label=label)


def plot_levels(axes: Axes, levels: dict[str, list[float]], first_colour: int) -> None:
    """Accuracies that stand beside the curves, as horizontal lines, the highest first."""
    ranked = sorted(levels.items(), key=lambda level: -mean(level[1]))
    for number, (name, values) in enumerate(ranked):
        style = dict(
            color=COLOURS[(first_colour + number) % len(COLOURS)],
            # so that both are seen where two are equal
            linestyle=(3 * number, (3, 3)),
            label=f'{name}: {mean(values):.1f}',
        )
        axes.axhline(mean(values), **style)


def figure_a(args: argparse.Namespace) -> Figure:
    """Accuracy against the number of steps."""
    points = accuracies_against_steps(Path(args.source), args.protocol)
    axes = new_axes('steps of descent in pretraining, N', 'top-1 accuracy in %')
    plot_accuracies(axes, points, args.protocol, COLOURS[0])
    axes.set_xticks(list(points))
    return axes.figure


def figure_b(args: argparse.Namespace) -> Figure:
    """Loss against the iterations of training."""
    history = [r for r in read_history(args.source, iterations_per_epoch=1) if r.training]
    history = [r for r in history if r.get('loss') is not None]
    if not history:
        raise FileNotFoundError(f'{args.source} has no TIME/vis_data/scalars.json with a loss')
    axes = new_axes('iterations', 'loss')
    x = [r.iteration for r in history]
    axes.plot(x, [r.get('loss') for r in history], color=COLOURS[0], label='loss')
    start = [r.get('distance_step0') for r in history]
    if None not in start:
        axes.plot(x, start, color='0.6', label='of the corrupted images themselves')
        axes.legend(frameon=False)
    axes.set_ylim(bottom=0)
    return axes.figure


def split_rows(
    rows: dict[str, list[float]], pattern: str
) -> tuple[dict[str, dict[float, list[float]]], dict[str, list[float]]]:
    """Those whose names match become curves, the others levels.

    Args:
        rows: name → accuracies.
        pattern: its last group is where on the axis; the group before, if any, names the curve.
    """
    curves, levels = defaultdict(dict), {}
    for name, values in rows.items():
        match = re.fullmatch(f'(?:energy-)?{pattern}', name)
        if match is None:
            levels[name] = values
        else:
            curve = match[1] if match.re.groups > 1 else ''
            curves[curve][float(match[match.re.groups])] = values
    return curves, levels


def picture_of_table(args: argparse.Namespace) -> Figure:
    """Accuracy against the share of cells (Table 1) or the scale (Table 2)."""
    first = args.figure == 'table1'
    paper = PAPER_TABLE_1 if first else PAPER_TABLE_2
    if args.source is None:
        rows = {name: [value] for name, value in paper.items()}
    else:
        rows = read_accuracies(Path(args.source), args.protocol)
    pattern = r'gridded(\d+)-(\d+)' if first else r'sr(\d+)'
    curves, levels = split_rows(rows, pattern)
    if not curves:
        wanted = 'griddedSIDE-SHARE' if first else 'srSCALE'
        raise ValueError(f'{args.source} has no row {wanted}, only {sorted(rows)}')
    axes = new_axes(
        'share of masked cells in %' if first else 'super-resolution: scale', 'top-1 accuracy in %'
    )
    for colour, (curve, points) in zip(cycle(COLOURS), curves.items(), strict=False):
        label = f'cells of {curve} pixels' if first else 'super-resolution'
        plot_accuracies(axes, points, label, colour)
    plot_levels(axes, levels, len(curves))
    axes.set_xticks(sorted({x for points in curves.values() for x in points}))
    axes.legend(frameon=False, fontsize=8, loc='center left', bbox_to_anchor=(1, 0.5))
    axes.set_title("the paper's numbers" if args.source is None else Path(args.source).name)
    axes.figure.set_size_inches(7.2, 3.8)
    return axes.figure


def figure_benchmark(args: argparse.Namespace) -> Figure:
    """Accuracy of each method of ``mmebm benchmark`` on test images, against compute.

    Raises:
        ValueError: the file has no test images.
    """
    with open(args.source, newline='') as opened:
        rows = [{k: number_or_text(v) for k, v in row.items()} for row in csv.DictReader(opened)]
    results = summarised(rows)
    if not results:
        raise ValueError(f'{args.source} has no accuracy on test images')
    return draw_results(results, 'CPU hours')


def number_or_text(text: str) -> float | str:
    """A cell of a CSV file."""
    try:
        return float(text)
    except ValueError:
        return text


DRAW = {
    '1': figure_1,
    '3': figure_3,
    'A': figure_a,
    'B': figure_b,
    'table1': picture_of_table,
    'table2': picture_of_table,
    'benchmark': figure_benchmark,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Draw one figure; 0, or 2 for a mistake."""
    args = parse_args(argv)
    with one_line_errors('figures.py'):
        drawn = DRAW[args.figure](args)
        output = Path(args.output)
        output.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(drawn, Figure):
            drawn.savefig(output, dpi=130)
        else:
            Image.fromarray(drawn).save(output)
        print(output)
    return 0


if __name__ == '__main__':
    sys.exit(main())
