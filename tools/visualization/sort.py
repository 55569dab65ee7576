"""Shuffle and sort the patches of images with a pretrained network: pictures of every step.

sort.py [CONFIG] CHECKPOINT IMAGE|FOLDER
"""

import argparse
import sys

import numpy as np
from rich.console import Console

from mmebm.apis import SortingInferencer, find_images
from mmebm.cli.parser import OneLineParser
from mmebm.cli.pictures import (
    USAGE,
    add_common_arguments,
    check_common_arguments,
    draw_each,
    report,
)
from mmebm.utils.tables import print_table


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = OneLineParser(
        description='Shuffle the patches of images, sort them by descent on the energy, and draw '
        'original, shuffled image and every step.',
        usage=USAGE,
    )
    add_common_arguments(parser, out_dir='sorted')
    args = parser.parse_args(argv)
    check_common_arguments(parser, args)
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    console = Console()
    try:
        images = find_images(args.images)
        sort = SortingInferencer(args.checkpoint, args.config, args.device)
    except (OSError, ValueError, TypeError) as error:
        print(f'sort.py: {error}', file=sys.stderr)
        return 2
    drawn, unreadable = draw_each(
        images, args, lambda image, index: sort(image, args.num_steps, index), 'sorted', console
    )
    rows = [(str(name), chain.accuracy) for name, chain in drawn]
    if rows:
        mean = np.mean([accuracy for _, accuracy in rows], axis=0)
        print_table(
            console,
            ['image', 'shuffled', *(f'step {n}' for n in range(1, len(mean)))],
            [
                [name, *(f'{share:.1%}' for share in accuracy)]
                for name, accuracy in [*rows, (f'mean of {len(rows)}', mean)]
            ],
            f'patches at their own position; chance {1 / sort.model.num_patches:.1%}',
        )
    return report(args, len(images), unreadable, console)


if __name__ == '__main__':
    sys.exit(main())
