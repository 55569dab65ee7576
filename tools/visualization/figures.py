"""Draw the paper's figures from runs of any size.

python tools/visualization/figures.py 1 CHECKPOINT IMAGES    chains of restoration
python tools/visualization/figures.py 3 CHECKPOINT IMAGES    every corruption, restored
python tools/visualization/figures.py A FOLDER               accuracy against N
python tools/visualization/figures.py B WORK_DIR             loss of a run

Figure A reads N at the end of the names of FOLDER's sub-folders, and from each a results.csv of
``mmebm benchmark`` or the log of finetuning/. The left part of Figure 1 shows how other
energy-based models sample, which this method never does.
"""

import argparse
import csv
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from mmebm.cli.errors import one_line_errors
from mmebm.cli.parser import OneLineParser
from mmebm.datasets import find_images
from mmebm.models.chain import Chain, draw_chains
from mmebm.report.history import read_history
from mmebm.restorer import Damage, Restorer, parse_corruption

LARGE = dict(num_blocks=25, area_range=(0.02, 0.05), aspect_range=(0.5, 2.0))
SMALL = dict(num_blocks=75, area_range=(0.01, 0.025), aspect_range=(0.5, 2.0))


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = OneLineParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('figure', choices=['1', '3', 'A', 'B'], help='name in the paper')
    parser.add_argument('source', metavar='CHECKPOINT|FOLDER|WORK_DIR')
    parser.add_argument('images', nargs='?', help='image or folder, for figures 1 and 3')
    parser.add_argument('--output', help='picture to write (default: figure_NAME.png)')
    parser.add_argument('--config', help='config, if the checkpoint holds none')
    parser.add_argument('--num', type=int, default=4, help='number of images (default: 4)')
    parser.add_argument('--num-steps', type=int, help='default: the number trained with')
    parser.add_argument('--seed', type=int, default=0, help='seed of the corruptions')
    parser.add_argument('--corruption', nargs='+', default=['config'], help='of figure 1')
    parser.add_argument('--scale', type=float, help='of cells in figure 3 (default: size / 224)')
    help = 'another network in figure 3: GaussianNoise=noise.pth'
    parser.add_argument('--network', nargs='+', default=[], metavar='NAME=CHECKPOINT', help=help)
    protocols = ('finetune', 'probe', 'knn')
    parser.add_argument('--protocol', choices=protocols, default='finetune', help='of figure A')
    args = parser.parse_args(argv)
    if args.figure in '13' and args.images is None:
        parser.error(f'figure {args.figure} needs CHECKPOINT IMAGES')
    args.output = args.output or f'figure_{args.figure}.png'
    return args


def chains_of(restorer: Restorer, corruption: dict | str, args: argparse.Namespace) -> list[Chain]:
    """The chains of images that are spread evenly over those given."""
    found, _ = find_images(args.images)
    spread = np.linspace(0, len(found) - 1, min(args.num, len(found))).round().astype(int)
    crops = [restorer.crop(found[i]) for i in spread]
    damages = [Damage(corruption=corruption, seed=args.seed, index=i) for i in range(len(crops))]
    return [restorer(*pair, args.num_steps) for pair in zip(crops, damages, strict=True)]


def figure_1(args: argparse.Namespace) -> list[Chain]:
    """The original of each image, then the chain from corrupted to restored."""
    restorer = Restorer(args.source, args.config)
    return chains_of(restorer, parse_corruption(args.corruption), args)


def figure_3(args: argparse.Namespace) -> list[Chain]:
    """Original, corrupted and restored image of each corruption; the same images for all."""
    pairs = (pair.partition('=') for pair in args.network)
    networks = {name: Restorer(checkpoint) for name, _, checkpoint in pairs}
    usual = Restorer(args.source, args.config)
    scale = usual.size[0] / 224 if args.scale is None else args.scale
    if not scale > 0:
        raise ValueError(f'--scale must be > 0, got {scale}')
    p12, p16, p32 = (max(1, round(pixels * scale)) for pixels in (12, 16, 32))
    corruptions = {
        f'gridded, {p16} pixels': dict(type='GriddedMask', patch_size=p16, ratio=0.5),
        f'gridded, {p32} pixels': dict(type='GriddedMask', patch_size=p32, ratio=0.5),
        'random large': dict(type='RandomBlockMask', **LARGE),
        'random small': dict(type='RandomBlockMask', **SMALL),
        f'super-resolution {p12}×': dict(type='SuperResolution', scale=p12),
        f'super-resolution {p16}×': dict(type='SuperResolution', scale=p16),
        'denoising': dict(type='GaussianNoise', gamma_range=(0.3, 0.7)),
        'colorization': dict(type='Colorization'),
    }
    chains = []
    for title, corruption in corruptions.items():
        for chain in chains_of(networks.get(corruption['type'], usual), corruption, args):
            ends, energies = [chain.images[0], chain.images[-1]], chain.energies[[0, -1]]
            chains.append(replace(chain, images=ends, energies=energies, title=title))
    return chains


def accuracies(folder: Path, protocol: str) -> list[float]:
    """Accuracies in % on test images after the longest pretraining, one for each seed."""
    if not (folder / 'results.csv').is_file():
        history = read_history(folder / 'finetuning', iterations_per_epoch=1)
        found = [record.get('accuracy/top1') for record in history if not record.training]
        return [value for value in found if value is not None][-1:]
    with open(folder / 'results.csv', newline='', encoding='utf-8') as file:
        rows = [row for row in csv.DictReader(file) if row['method'].startswith('energy-')]
    rows = [r for r in rows if (r['split'], r['protocol']) == ('test', protocol) and r['accuracy']]
    longest = max((int(row['pretraining_epochs']) for row in rows), default=0)
    return [float(r['accuracy']) for r in rows if int(r['pretraining_epochs']) == longest]


def figure_a(args: argparse.Namespace) -> Figure:
    """Accuracy against the number of steps, with the seeds' standard deviation."""
    folders = {re.search(r'\d*$', path.name)[0]: path for path in Path(args.source).glob('*/')}
    points = {int(n): accuracies(path, args.protocol) for n, path in folders.items() if n}
    points = {n: points[n] for n in sorted(points) if points[n]}
    if not points:
        raise FileNotFoundError(f'{args.source} has no sub-folder with results, named ...N')
    axes = Figure((5.6, 3.8), layout='constrained').subplots()
    axes.set(xlabel='steps of descent in pretraining, N', ylabel='top-1 accuracy in %')
    spread = [stdev(values) if len(values) > 1 else 0.0 for values in points.values()]
    axes.errorbar(list(points), [mean(values) for values in points.values()], spread, fmt='o-')
    axes.set_xticks(list(points))
    return axes.figure


def figure_b(args: argparse.Namespace) -> Figure:
    """Loss against the iterations of training."""
    history = [r for r in read_history(args.source, iterations_per_epoch=1) if r.training]
    history = [r for r in history if r.get('loss') is not None]
    if not history:
        raise FileNotFoundError(f'{args.source} has no TIME/vis_data/scalars.json with a loss')
    axes = Figure((5.6, 3.8), layout='constrained').subplots()
    for key, label in (('loss', 'loss'), ('distance_step0', 'of the corrupted images themselves')):
        axes.plot([r.iteration for r in history], [r.get(key) for r in history], label=label)
    axes.legend(frameon=False)
    axes.set(xlabel='iterations', ylabel='loss', ylim=(0, None))
    return axes.figure


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    draw = {'1': figure_1, '3': figure_3, 'A': figure_a, 'B': figure_b}
    with one_line_errors('figures.py'):
        drawn = draw[args.figure](args)
        Path(args.output).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(drawn, Figure):
            drawn.savefig(args.output, dpi=130)
        else:
            across = args.num if args.figure == '3' else 2
            Image.fromarray(draw_chains(drawn, across)).save(args.output)
        print(args.output)
    return 0


if __name__ == '__main__':
    sys.exit(main())
