"""Rank images by how strange they are to a network.

mmebm score CHECKPOINT FOLDER --out FOLDER
mmebm score CHECKPOINT FOLDER --out FOLDER --reference FOLDER_OF_ORDINARY_ONES

Writes scores.csv, strangest image first, and scores.html, a page with the
strangest and the most ordinary images and maps of where they are strange.
"""

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('checkpoint', metavar='CHECKPOINT')
    add('images', metavar='FOLDER')
    add('--out', required=True, metavar='FOLDER', help='folder for the two files')
    add('--reference', metavar='FOLDER', help='ordinary images; default: the images themselves')
    help = 'p-value up to which an image is labelled strange; default: 0.05'
    add('--threshold', type=float, default=0.05, metavar='P', help=help)
    add('--top', type=int, default=12, metavar='N', help='images to show at each end; default: 12')
    add('--config', help='needed only if the checkpoint holds none')
    add('--device', help='cpu, cuda, ...; default: the GPU if there is one')
    add('--batch-size', type=int, metavar='TILES', help='tiles per batch')


def run(args: argparse.Namespace) -> int:
    """Score all images; return the exit status, 1 if none could be read."""
    import numpy as np
    from rich.console import Console
    from rich.progress import track

    from ..datasets import find_images
    from ..report.page import data_uri, render, write_page
    from ..restorer import Restorer, overlay
    from ..restorer.scoring import score_images
    from ..utils import checked_int, checked_number
    from ..utils.tables import write_csv

    checked_int('--top', args.top, minimum=1)
    checked_number('--threshold', args.threshold, 0, 1)
    images, notes = find_images(args.images)
    reference, more = find_images(args.reference) if args.reference else ([], [])
    restorer = Restorer(args.checkpoint, args.config, args.device, args.batch_size)
    steps = range(len(images) + len(reference) + 1)
    bar = iter(track(steps, 'scoring', console=Console(stderr=True)))
    found, messages = score_images(restorer, images, reference, lambda: next(bar))
    for line in (*notes, *more, *messages):
        print(line, file=sys.stderr)
    if not found:
        return 1
    root = Path(args.images) if Path(args.images).is_dir() else images[0].parent
    rows = []
    for rank, image in enumerate(found, 1):
        label = 'strange' if image.p_value <= args.threshold else 'ordinary'
        row = dict(rank=rank, image=str(image.path.relative_to(root)), score=f'{image.score:.6g}')
        row |= dict(p_value=f'{image.p_value:.4g}', label=label)
        rows.append(row | dict(png_bytes_per_pixel=f'{image.bytes_per_pixel:.4g}'))
    out = Path(args.out)
    write_csv(rows, out / 'scores.csv')
    highest = float(np.percentile(np.concatenate([i.heat.ravel() for i in found]), 99.5)) or 1.0
    cards = [
        (row, data_uri(image.thumbnail), data_uri(overlay(image.thumbnail, image.heat, highest)))
        for row, image in zip(rows, found, strict=True)
    ]
    ends = {'Strangest': cards[: args.top], 'Most ordinary': cards[args.top :][-args.top :]}
    content = dict(ends=ends, scores=[i.score for i in found], network=Path(args.checkpoint).name)
    title = 'How strange images are'
    write_page(out / 'scores.html', render('scores.html', title=title, **content))
    strange = sum(row['label'] == 'strange' for row in rows)
    print(f'{len(found)} scored, {strange} of them strange: {(out / "scores.html").resolve()}')
    return 0
