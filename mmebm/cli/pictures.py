"""Shared by the tools that restore and sort: one picture for each image of a folder."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.progress import track

from ..apis import UnreadableImageError
from ..visualization import Chain, draw_chains

USAGE = '%(prog)s [CONFIG] CHECKPOINT IMAGE|FOLDER [options]'


def add_common_arguments(parser: argparse.ArgumentParser, out_dir: str) -> None:
    parser.add_argument(
        'paths',
        nargs='+',
        metavar='[CONFIG] CHECKPOINT IMAGE|FOLDER',
        help='the config is needed only if the checkpoint holds none',
    )
    parser.add_argument('--num-steps', type=int, help='defaults to the number used in training')
    parser.add_argument('--out-dir', default=out_dir, help='folder for the pictures')
    parser.add_argument('--device', help="'cpu', 'cuda', ... Defaults to the GPU if there is one")


def check_common_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Split the paths into ``args.config`` (or None), ``args.checkpoint`` and ``args.images``."""
    if len(args.paths) not in (2, 3):
        parser.error(f'give [CONFIG] CHECKPOINT IMAGE|FOLDER, got {len(args.paths)} paths')
    *config, args.checkpoint, args.images = args.paths
    args.config = config[0] if config else None
    if args.num_steps is not None and args.num_steps < 0:
        parser.error(f'--num-steps must be ≥ 0, got {args.num_steps}')


def draw_each(
    images: list[Path],
    args: argparse.Namespace,
    chain_of: Callable[[Path, int], Chain],
    kind: str,
    console: Console,
) -> tuple[list[tuple[Path, Chain]], list[str]]:
    """Draw the chain of each image into ``args.out_dir``, with the sub-folders of the images.

    Args:
        images: found in ``args.images``.
        args: with the common arguments.
        chain_of: path of an image and its number → its chain.
        kind: last part of the names of the pictures, ``IMAGE.KIND.png``.
        console: for the progress bar.

    Returns:
        For each picture its path relative to ``out_dir``, without ``.KIND.png``, and its chain; and
        a message for each image that could not be read.
    """
    root = Path(args.images) if Path(args.images).is_dir() else images[0].parent
    drawn, unreadable = [], []
    for index, image in enumerate(track(images, 'drawing', console=console)):
        try:
            chain = chain_of(image, index)
        except UnreadableImageError as error:
            unreadable.append(str(error))
            continue
        name = image.relative_to(root)
        target = Path(args.out_dir, f'{name}.{kind}.png')
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_chains([chain], cell=2.2)).save(target)
        drawn.append((name, chain))
    return drawn, unreadable


def report(
    args: argparse.Namespace, num_images: int, unreadable: list[str], console: Console
) -> int:
    """Print where the pictures are and what was skipped; return the exit status, 1 for none."""
    if len(unreadable) < num_images:
        console.print(f'Pictures: {Path(args.out_dir).resolve()}', soft_wrap=True)
    for message in unreadable:
        print(f'skipped: {message}', file=sys.stderr)
    if unreadable:
        print(f'{len(unreadable)} of {num_images} images could not be read', file=sys.stderr)
    return int(len(unreadable) == num_images)
