"""How good are frozen features? Weighted k-nearest-neighbour classification of labelled images.

    knn.py CHECKPOINT DATA_ROOT            # network as in the checkpoint's own config
    knn.py CONFIG CHECKPOINT DATA_ROOT     # network of a config, such as a finetuning
    knn.py CONFIG DATA_ROOT                # a random network of a config
    knn.py CHECKPOINT DATA_ROOT --random   # both

DATA_ROOT holds a sub-folder per class in train/ and in test/ or val/.
"""

import argparse
import sys
import time
from pathlib import Path

import torch
from mmengine.dataset import default_collate
from mmengine.logging import MMLogger
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader

from mmebm.apis import FeatureExtractor, read_config
from mmebm.datasets import ImageFolder
from mmebm.evaluation import nearest, vote

CHUNK = 4096  # queries, and features, compared at once


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
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
        '--random', action='store_true', help='the same network with random weights as well'
    )
    parser.add_argument('--seed', type=int, default=0, help='of the random weights')
    parser.add_argument(
        '--image-size', type=int, help="in pixels; defaults to the backbone's, else 224"
    )
    parser.add_argument(
        '--max-images', type=int, help='of each part, spread evenly over the classes (default: all)'
    )
    parser.add_argument('--batch-size', type=int, default=128)
    parser.add_argument('--workers', type=int, default=4, help='processes that read images')
    parser.add_argument('--half', action='store_true', help='keep the features in float16')
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


def build_part(data_root: Path, names: tuple[str, ...], size: int, most: int | None) -> ImageFolder:
    """The labelled images of the first of these sub-folders that there is.

    Raises:
        FileNotFoundError: there is none, or no image in it.
    """
    name = next((name for name in names if (data_root / name).is_dir()), None)
    if name is None:
        raise FileNotFoundError(f'{data_root} has no sub-folder {" or ".join(names)}')
    # The usual 256 → 224 of ImageNet; small images are taken whole.
    edge = round(size * 256 / 224) if size >= 128 else size
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='ResizeEdge', scale=edge, backend='pillow', interpolation='bicubic'),
        dict(type='CenterCrop', crop_size=size),
        dict(type='PackInputs'),
    ]
    dataset = ImageFolder(str(data_root), name, with_label=True, test_mode=True, pipeline=pipeline)
    if most is not None and most < len(dataset):  # in order of classes
        dataset.get_subset_(torch.linspace(0, len(dataset) - 1, most).long().tolist())
    return dataset


def extract(
    network: FeatureExtractor, dataset: ImageFolder, args: argparse.Namespace, progress: Progress
) -> tuple[Tensor, Tensor]:
    """Features ``(N, D)`` and labels ``(N,)`` of a part, both on the network's device."""
    loader = DataLoader(
        dataset, args.batch_size, num_workers=args.workers, collate_fn=default_collate
    )
    task = progress.add_task(f'features of {Path(dataset.img_prefix).name}', total=len(dataset))
    features, labels, start = None, [], 0
    for batch in loader:
        labels += [sample.gt_label for sample in batch['data_samples']]
        found = network(batch)
        if features is None:  # filled in place: a list to concatenate would need twice the memory
            dtype = torch.float16 if args.half else torch.float32
            features = found.new_empty(len(dataset), found.shape[1], dtype=dtype)
        features[start : start + len(found)] = found
        start += len(found)
        progress.update(task, completed=start)
    return features, torch.cat(labels).to(features.device)


def accuracies(
    bank: tuple[Tensor, Tensor],
    queries: tuple[Tensor, Tensor],
    args: argparse.Namespace,
    num_classes: int,
    progress: Progress,
) -> dict[int, Tensor]:
    """Share of queries whose class is the first, and is among the first five, for each k."""
    most = args.k[-1]
    hits = {k: torch.zeros(2, dtype=torch.long) for k in args.k}
    task = progress.add_task('neighbours', total=len(queries[0]))
    for part, labels in zip(*(q.split(CHUNK) for q in queries), strict=True):
        similarities, indices = nearest(bank[0], part, most, CHUNK)
        neighbours = bank[1][indices]
        for k in args.k:
            scores = vote(similarities[:, :k], neighbours[:, :k], args.temperature, num_classes)
            right = scores.topk(min(5, num_classes), dim=1).indices == labels[:, None]
            hits[k] += torch.stack([right[:, 0].sum(), right.sum()]).cpu()
        progress.advance(task, len(part))
    return {k: count / len(queries[0]) for k, count in hits.items()}


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    console = Console()
    MMLogger.get_instance('knn', log_level='WARNING')  # not a line for each initialised tensor
    weights = {} if args.checkpoint is None else {Path(args.checkpoint).name: args.checkpoint}
    if args.random or not weights:
        weights[f'random (seed {args.seed})'] = None
    table = Table(title=f'{args.data_root}: weighted kNN, T = {args.temperature}, accuracy in %')
    for column in ('weights', 'k', 'top-1', 'top-5', 'seconds'):
        table.add_column(column, justify='left' if column == 'weights' else 'right')
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn())
    try:
        for name, checkpoint in weights.items():
            start = time.perf_counter()
            config = args.config
            if config is None and checkpoint is None:
                config = read_config(None, args.checkpoint)
            network = FeatureExtractor(config, checkpoint, args.device, args.seed)
            if network.filled:
                console.print(f'{checkpoint}: {network.filled}', soft_wrap=True, highlight=False)
            size = args.image_size or network.image_size or 224
            root = Path(args.data_root).expanduser()
            train = build_part(root, ('train',), size, args.max_images)
            test = build_part(root, ('test', 'val'), size, args.max_images)
            check_parts(train, test, args.k[-1])
            with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
                bank = extract(network, train, args, progress)
                queries = extract(network, test, args, progress)
                found = accuracies(bank, queries, args, len(train.CLASSES), progress)
            seconds = time.perf_counter() - start
            for k, (top1, top5) in found.items():
                cells = (f'{100 * top1:.2f}', f'{100 * top5:.2f}', f'{seconds:.0f}')
                table.add_row(name, str(k), *cells)
    except (OSError, ValueError) as error:
        print(f'knn.py: {error}', file=sys.stderr)
        return 2
    console.print(table)
    console.print(
        f'{len(train)} labelled images, {len(test)} queries, {len(train.CLASSES)} classes '
        f'(chance: {100 / len(train.CLASSES):.1f} %)'
    )
    for part in (train, test):
        if unreadable := part.unreadable_images():
            print(f'{len(unreadable)} images of {part.img_prefix} could not be read, others took '
                  'their place', file=sys.stderr)  # fmt: skip
    return 0


def check_parts(train: ImageFolder, test: ImageFolder, k: int) -> None:
    """Refuse folders whose labels do not mean the same.

    Raises:
        ValueError: the classes differ, or there are fewer than k labelled images.
    """
    if train.CLASSES != test.CLASSES:
        differing = sorted(set(train.CLASSES) ^ set(test.CLASSES))
        raise ValueError(
            f'{train.img_prefix} and {test.img_prefix} must have the same class sub-folders, but '
            f'only one of them has {", ".join(differing[:5])}'
        )
    if k > len(train):
        raise ValueError(f'--k {k} is more than the {len(train)} labelled images')


if __name__ == '__main__':
    sys.exit(main())
