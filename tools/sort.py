"""Shuffle and sort the patches of images with a pretrained network: pictures of every step.

python tools/sort.py [CONFIG] CHECKPOINT IMAGE|FOLDER
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from mmebm.apis import SortingInferencer, UnreadableImageError, find_images
from mmebm.visualization import draw_chains


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Shuffle the patches of images, sort them by descent on the energy, and draw '
        'original, shuffled image and every step.',
        usage='%(prog)s [CONFIG] CHECKPOINT IMAGE|FOLDER [options]',
    )
    parser.add_argument(
        'paths',
        nargs='+',
        metavar='[CONFIG] CHECKPOINT IMAGE|FOLDER',
        help='the config is needed only where the checkpoint holds none',
    )
    parser.add_argument('--num-steps', type=int, help='defaults to the number trained with')
    parser.add_argument('--out-dir', default='sorted', help='where the pictures go')
    parser.add_argument('--device', help="'cpu', 'cuda', ... Defaults to the GPU if there is one")
    args = parser.parse_args(argv)
    if len(args.paths) not in (2, 3):
        parser.error(f'give [CONFIG] CHECKPOINT IMAGE|FOLDER, got {len(args.paths)} paths')
    *config, args.checkpoint, args.images = args.paths
    args.config = config[0] if config else None
    if args.num_steps is not None and args.num_steps < 0:
        parser.error(f'--num-steps must be ≥ 0, got {args.num_steps}')
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
    root = Path(args.images) if Path(args.images).is_dir() else images[0].parent
    out_dir = Path(args.out_dir)
    rows, unreadable = [], []
    for index, image in enumerate(track(images, 'sorting', console=console)):
        try:
            chain = sort(image, args.num_steps, index)
        except UnreadableImageError as error:
            unreadable.append(str(error))
            continue
        name = image.relative_to(root)
        target = out_dir / name.parent / f'{name.name}.sorted.png'
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_chains([chain], cell=2.2)).save(target)
        rows.append((str(name), chain.accuracy))
    if rows:
        mean = np.mean([accuracy for _, accuracy in rows], axis=0)
        table = Table(
            title=f'patches at their own position; chance {1 / sort.model.num_patches:.1%}'
        )
        for n, column in enumerate(
            ['image', 'shuffled', *(f'step {n}' for n in range(1, len(mean)))]
        ):
            table.add_column(column, justify='right' if n else 'left')
        for name, accuracy in [*rows, (f'mean of {len(rows)}', mean)]:
            table.add_row(name, *(f'{share:.1%}' for share in accuracy))
        console.print(table)
        console.print(f'Pictures: {out_dir.resolve()}', soft_wrap=True)
    for message in unreadable:
        print(f'skipped: {message}', file=sys.stderr)
    if unreadable:
        print(f'{len(unreadable)} of {len(images)} images could not be read', file=sys.stderr)
    return 0 if rows else 1


if __name__ == '__main__':
    sys.exit(main())
