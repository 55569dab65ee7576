"""Evaluate frozen features by weighted k-nearest-neighbour classification of labelled images.

    knn.py CHECKPOINT DATA_ROOT            # network of the config in the checkpoint
    knn.py CONFIG CHECKPOINT DATA_ROOT     # network of a config, such as a finetuning config
    knn.py CONFIG DATA_ROOT                # network of a config, with random weights
    knn.py CHECKPOINT DATA_ROOT --random   # both

DATA_ROOT holds a sub-folder per class in train/ and in test/ or val/.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from mmengine.logging import MMLogger
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mmebm.apis import FeatureExtractor, evaluate_knn, read_config
from mmebm.cli.parser import OneLineParser
from mmebm.utils.quiet import quiet_torch
from mmebm.utils.tables import print_table


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = OneLineParser(
        description='Classify images by the nearest neighbours of their frozen features.',
        usage='%(prog)s CONFIG|CHECKPOINT [CHECKPOINT] DATA_ROOT [options]',
    )
    parser.add_argument(
        'paths',
        nargs='+',
        metavar='CONFIG|CHECKPOINT [CHECKPOINT] DATA_ROOT',
        help='a config (.py) alone is evaluated with random weights; DATA_ROOT/train/CLASS and '
        'DATA_ROOT/test/CLASS (or val) hold the images',
    )
    parser.add_argument('--k', nargs='+', type=int, default=[20], help='neighbours (default: 20)')
    parser.add_argument('--temperature', type=float, default=0.07, help='default: 0.07')
    parser.add_argument(
        '--random', action='store_true', help='also evaluate the same network with random weights'
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of the random weights')
    parser.add_argument(
        '--image-size', type=int, help="side in pixels; defaults to the backbone's, else 224"
    )
    parser.add_argument(
        '--max-images', type=int, help='per part, spread evenly over the classes (default: all)'
    )
    parser.add_argument('--batch-size', type=int, default=128)
    parser.add_argument('--workers', type=int, default=4, help='data-loading processes')
    parser.add_argument('--half', action='store_true', help='store the features in float16')
    parser.add_argument('--device', help="'cpu', 'cuda', ... Defaults to the GPU if there is one")
    args = parser.parse_args(argv)
    if len(args.paths) not in (2, 3):
        parser.error(f'give CONFIG|CHECKPOINT [CHECKPOINT] DATA_ROOT, got {len(args.paths)} paths')
    *networks, args.data_root = args.paths
    args.config = networks.pop(0) if networks[0].endswith('.py') else None
    if len(networks) > 1:
        parser.error(f'the first of three paths must be a config (.py), got {networks[0]}')
    args.checkpoint = networks[0] if networks else None
    args.k = sorted(set(args.k))
    if args.k[0] < 1:
        parser.error(f'--k must be ≥ 1, got {args.k[0]}')
    if not args.temperature > 0:
        parser.error(f'--temperature must be > 0, got {args.temperature}')
    for name, least in (('max_images', 1), ('image_size', 1), ('batch_size', 1), ('workers', 0)):
        value = getattr(args, name)
        if value is not None and value < least:
            parser.error(f'--{name.replace("_", "-")} must be ≥ {least}, got {value}')
    return args


def part(data_root: Path, *names: str) -> Path:
    """The first of these sub-folders that exists.

    Raises:
        FileNotFoundError: none exists.
    """
    found = next((data_root / name for name in names if (data_root / name).is_dir()), None)
    if found is None:
        raise FileNotFoundError(f'{data_root} has no sub-folder {" or ".join(names)}')
    return found


def bars(progress: Progress) -> Callable[[str, int, int], None]:
    """Show a progress bar for each stage, added when the stage begins."""
    tasks = {}

    def move(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = progress.add_task(what, total=total)
        progress.update(tasks[what], completed=done)

    return move


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    console = Console()
    MMLogger.get_instance('knn', log_level='WARNING')  # else it logs every initialised tensor
    quiet_torch()
    weights = {} if args.checkpoint is None else {Path(args.checkpoint).name: args.checkpoint}
    if args.random or not weights:
        weights[f'random (seed {args.seed})'] = None
    rows = []
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn())
    root = Path(args.data_root).expanduser()
    try:
        train, test = part(root, 'train'), part(root, 'test', 'val')
        for name, checkpoint in weights.items():
            start = time.perf_counter()
            config = args.config
            if config is None and checkpoint is None:
                config = read_config(None, args.checkpoint)
            network = FeatureExtractor(config, checkpoint, args.device, args.seed)
            if network.filled:
                console.print(f'{checkpoint}: {network.filled}', soft_wrap=True, highlight=False)
            with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
                result = evaluate_knn(
                    network,
                    train,
                    test,
                    k=args.k,
                    temperature=args.temperature,
                    image_size=args.image_size,
                    max_images=args.max_images,
                    batch_size=args.batch_size,
                    workers=args.workers,
                    half=args.half,
                    progress=bars(progress),
                )
            seconds = time.perf_counter() - start
            for k, (top1, top5) in result.accuracies.items():
                rows.append(
                    [name, str(k), f'{100 * top1:.2f}', f'{100 * top5:.2f}', f'{seconds:.0f}']
                )
    except (OSError, ValueError) as error:
        print(f'knn.py: {error}', file=sys.stderr)
        return 2
    title = f'{args.data_root}: weighted kNN, T = {args.temperature}, accuracy in %'
    print_table(console, ('weights', 'k', 'top-1', 'top-5', 'seconds'), rows, title)
    console.print(
        f'{len(result.train)} labelled images, {len(result.test)} queries, '
        f'{len(result.classes)} classes (chance: {100 / len(result.classes):.1f} %)'
    )
    for images in (result.train, result.test):
        if unreadable := images.unreadable_images():
            print(f'{len(unreadable)} images of {images.img_prefix} could not be read and were '
                  'replaced by others', file=sys.stderr)  # fmt: skip
    return 0


if __name__ == '__main__':
    sys.exit(main())
