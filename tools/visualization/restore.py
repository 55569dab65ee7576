"""Restore images with a pretrained network: pictures of every descent step, and a table.

restore.py [CONFIG] CHECKPOINT IMAGE|FOLDER [--corruption NAME [KEY=VALUE ...]]
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from mmengine.config import DictAction
from PIL import Image
from rich.console import Console

from mmebm.apis import RestorationInferencer, find_images
from mmebm.cli.parser import OneLineParser
from mmebm.cli.pictures import (
    USAGE,
    add_common_arguments,
    check_common_arguments,
    draw_each,
    report,
)
from mmebm.corruptions import BaseCorruption, MixedCorruption
from mmebm.utils.tables import print_table
from mmebm.visualization import Chain, to_uint8


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = OneLineParser(
        description='Corrupt images, restore them by descent on the energy, and draw the chains.',
        usage=USAGE,
    )
    add_common_arguments(parser, out_dir='restored')
    parser.add_argument(
        '--corruption',
        metavar='NAME',
        default='config',
        help='a registered corruption, such as GaussianNoise; "none" takes the images as corrupted '
        'already. Defaults to the corruption that the network was validated with',
    )
    parser.add_argument(
        '--corruption-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help='options of the corruption, such as patch_size=16 ratio=0.5',
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of the corruption')
    args = parser.parse_args(argv)
    check_common_arguments(parser, args)
    if args.corruption_options and args.corruption in ('config', 'none'):
        parser.error('--corruption-options needs --corruption NAME')
    return args


def chosen_corruption(name: str, options: dict) -> BaseCorruption | str | None:
    """The corruption to apply, None for none, ``'config'`` for the network's own."""
    if name == 'config':
        return name
    if name.lower() == 'none':
        return None
    return MixedCorruption([dict(type=name, **options)]).corruptions[0]


COLUMNS = (
    'image', 'corruption', 'PSNR corrupted', 'PSNR restored', 'E original', 'E corrupted',
    'E restored',
)  # fmt: skip


def cells(name: str, chain: Chain) -> list[str]:
    """The row of an image."""
    psnr = [f'{value:.2f}' for value in (chain.psnr[0], chain.psnr[-1])]
    if chain.clean is None:
        psnr = ['–', '–']
    clean_energy = '–' if chain.clean_energy is None else f'{chain.clean_energy:.3g}'
    energies = [f'{value:.3g}' for value in (chain.energies[0], chain.energies[-1])]
    return [name, chain.title or '–', *psnr, clean_energy, *energies]


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    console = Console()
    try:
        images = find_images(args.images)
        corruption = chosen_corruption(args.corruption, args.corruption_options)
        restore = RestorationInferencer(args.checkpoint, args.config, args.device)
    except (OSError, ValueError, TypeError) as error:
        print(f'restore.py: {error}', file=sys.stderr)
        return 2
    drawn, unreadable = draw_each(
        images,
        args,
        lambda image, index: restore(image, corruption, args.num_steps, args.seed, index),
        'chain',
        console,
    )
    rows = []
    for name, chain in drawn:
        target = Path(args.out_dir, f'{name}.restored.png')
        Image.fromarray(to_uint8(chain.images[-1])).save(target)
        rows.append(cells(str(name), chain))
    chains = [chain for _, chain in drawn]
    if len(chains) > 1 and chains[0].clean is not None:
        means = (np.mean([c.psnr[i] for c in chains]) for i in (0, -1))
        rows.append([f'mean of {len(chains)}', '', *(f'{mean:.2f}' for mean in means), *3 * ['']])
    if chains:
        title = 'PSNR in dB; the energy E is low for images like those of the training set'
        print_table(console, COLUMNS, rows, title, left=2)
    return report(args, len(images), unreadable, console)


if __name__ == '__main__':
    sys.exit(main())
