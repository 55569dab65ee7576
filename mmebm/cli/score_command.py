"""Rank images by how strange they are.

mmebm score CHECKPOINT FOLDER --out FOLDER
mmebm score CHECKPOINT FOLDER --out FOLDER --reference FOLDER_OF_ORDINARY_IMAGES

Writes scores.csv, strangest image first, and scores.html, a self-contained page: for each score a
histogram, the strangest and the most ordinary images, and maps of where they are strange. What was
scored is kept in FOLDER/kept and not scored again.
"""

import argparse
import sys
from pathlib import Path

GO_ON = 'run the same command again to continue'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('checkpoint', metavar='CHECKPOINT')
    parser.add_argument('images', metavar='FOLDER')
    parser.add_argument('--out', required=True, metavar='FOLDER', help='folder for the two files')
    parser.add_argument('--config', help='needed only if the checkpoint holds none')
    parser.add_argument(
        '--rank-by',
        choices=['energy', 'gradient', 'restoration', 'knn', 'size'],
        default='size',
        help='order of scores.csv and first section of the page; defaults to size, which did best '
        'in our measurements and uses no network (docs/restore_and_score.md)',
    )
    parser.add_argument(
        '--corruptions',
        type=int,
        default=4,
        metavar='K',
        help='corruptions that each image is restored from; 0 skips this score, which takes most '
        'of the time; defaults to 4',
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of the corruptions')
    parser.add_argument(
        '--reference',
        metavar='FOLDER',
        help='ordinary images to compare with, for knn and size; defaults to the other images',
    )
    parser.add_argument(
        '--neighbours',
        type=int,
        default=5,
        metavar='K',
        help='nearest images that knn averages over; defaults to 5',
    )
    parser.add_argument(
        '--short-side',
        type=int,
        metavar='PIXELS',
        help="short side of an image when it is scored; defaults to at most twice the network's",
    )
    parser.add_argument(
        '--top', type=int, default=12, metavar='N', help='images to show at each end of a ranking'
    )
    parser.add_argument('--device', help="'cpu', 'cuda', ... Defaults to the GPU if there is one")
    parser.add_argument('--batch-size', type=int, metavar='TILES', help='tiles per batch')


def run(args: argparse.Namespace) -> int:
    """Score all images; return the exit status, 1 if none could be read."""
    from rich.console import Console
    from rich.progress import track

    from ..apis import WholeImageRestorer, find_images, score_images
    from ..apis.scoring import SCORES
    from ..utils import checked_int
    from ..utils.tables import write_csv
    from ..visualization.score_page import score_page

    top = checked_int('--top', args.top, minimum=1)
    if args.rank_by == 'restoration' and not args.corruptions:
        raise ValueError('--rank-by restoration needs --corruptions ≥ 1')
    images = find_images(args.images)
    reference = find_images(args.reference) if args.reference else []
    if args.rank_by in ('knn', 'size') and len(images) == 1 and not reference:
        raise ValueError(
            f'{args.rank_by} compares an image with others: add --reference FOLDER, or use '
            '--rank-by energy'
        )
    restorer = WholeImageRestorer(args.checkpoint, args.config, args.device, args.batch_size)
    count = len(images) + len(reference)
    bar = iter(track(range(count), 'scoring', console=Console(stderr=True)))
    out = Path(args.out)
    found, problems = score_images(
        restorer,
        images,
        args.corruptions,
        args.seed,
        args.neighbours,
        reference,
        args.short_side,
        on_image=lambda: next(bar, None),
        kept=out / 'kept',
    )
    next(bar, None)
    if found:
        root = Path(args.images) if Path(args.images).is_dir() else images[0].parent
        ranked = ranked_images(found, root, args.rank_by)
        write_csv(rows_of(ranked), out / 'scores.csv')
        notes = [f'{len(found)} images, scored by {Path(args.checkpoint).name}.']
        notes += [f'{len(problems)} could not be read.'] if problems else []
        page = score_page(ranked, SCORES, args.rank_by, top, notes=notes)
        Path(out, 'scores.html').write_text(page, encoding='utf-8')
        print(f'{len(found)} scored: {(out / "scores.html").resolve()}')
    for problem in problems:
        print(f'skipped: {problem}', file=sys.stderr)
    if problems:
        print(f'{len(problems)} images could not be read', file=sys.stderr)
    return int(not found)


def ranked_images(found: list, root: Path, by: str) -> list:
    """Scores of images below ``root`` as what the page shows, the strangest by one score first."""
    from ..apis.scoring import SCORES
    from ..visualization.score_page import RankedImage, rank

    images = [
        RankedImage(
            str(each.path.relative_to(root)),
            {name: getattr(each, name) for name in SCORES},
            each.thumbnail,
            each.heat,
        )
        for each in found
    ]
    return rank(images, by)


def rows_of(ranked: list) -> list[dict]:
    """The rows of ``scores.csv``."""
    return [
        dict(rank=n, image=i.name, **{k: f'{v:.6g}' for k, v in i.scores.items()})
        for n, i in enumerate(ranked, 1)
    ]
