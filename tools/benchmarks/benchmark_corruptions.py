"""Measure what a worker spends on an image, compared with MMPretrain's MAE pipeline.

Every row is a whole pipeline: LoadImageFromFile, RandomResizedCrop to 224² (bicubic, Pillow),
RandomFlip, the corruption (MAE: none), PackInputs. Two costs, in CPU time of one thread:

- transforms: the pipelines take turns, image by image, and get the same crops;
- worker: all that the worker of a DataLoader does, including collating and sending batches of 32;
  the pipelines take turns by rounds. Also its images per second, and the KB sent per image.

python tools/benchmarks/benchmark_corruptions.py FOLDER
python tools/benchmarks/benchmark_corruptions.py FOLDER --repeats 10 --output costs.md
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from time import process_time

from mmebm.cli.parser import OneLineParser

import mmebm  # noqa: F401  isort: skip  first, because it imports MMPretrain without warnings
import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform, LoadImageFromFile, RandomFlip
from mmengine.dataset import default_collate
from mmpretrain.datasets import CustomDataset
from mmpretrain.datasets.transforms import PackInputs, RandomResizedCrop
from rich.console import Console
from rich.progress import track
from torch.utils.data import DataLoader, Dataset

from mmebm.corruptions import (
    BaseCorruption,
    Blur,
    Colorization,
    Fog,
    FrequencyMask,
    GaussianNoise,
    GriddedMask,
    JPEGCompression,
    MixedCorruption,
    RandomBlockMask,
    Shuffle,
    SuperResolution,
)
from mmebm.datasets import ImageFolder
from mmebm.utils.device import device_name
from mmebm.utils.tables import markdown_table, print_table

BASELINE = 'MAE of MMPretrain'
RANDOM_SMALL = dict(num_blocks=75, area_range=(0.01, 0.025), aspect_range=(0.5, 2.0))
RANDOM_LARGE = dict(num_blocks=25, area_range=(0.02, 0.05), aspect_range=(0.5, 2.0))


def _mixture(noise: GaussianNoise) -> MixedCorruption:
    return MixedCorruption(
        [RandomBlockMask(**RANDOM_LARGE), SuperResolution(16), noise, Colorization()]
    )


CORRUPTIONS: dict[str, BaseCorruption] = {
    'GriddedMask 16, 50 %': GriddedMask(16, 0.5),
    'GriddedMask 32, 50 %': GriddedMask(32, 0.5),
    'RandomBlockMask small': RandomBlockMask(**RANDOM_SMALL),
    'RandomBlockMask large': RandomBlockMask(**RANDOM_LARGE),
    'SuperResolution 8×': SuperResolution(8),
    'SuperResolution 16×': SuperResolution(16),
    'SuperResolution 32×': SuperResolution(32),
    'SuperResolution 16× aliased': SuperResolution(16, antialias=False),
    'Colorization': Colorization(),
    'GaussianNoise': GaussianNoise(on_device=True),
    'MixedCorruption of four': _mixture(GaussianNoise(on_device=True)),
    'GaussianNoise, float32': GaussianNoise(),
    'MixedCorruption, float32': _mixture(GaussianNoise()),
    'Blur, σ 1 to 3': Blur((1, 3)),
    'JPEGCompression, quality 5 to 30': JPEGCompression((5, 30)),
    'FrequencyMask, float32': FrequencyMask((0.05, 0.25), 0.1),
    'Shuffle 32': Shuffle(32),
    'Fog': Fog(),
}
EXTENSIONS = ('.jpg', '.jpeg')
BATCH_SIZE = 32
BATCHES = 4  # of each pipeline in a round


def pipeline_of(corruption: BaseCorruption | None) -> list[BaseTransform]:
    """The pipeline of our configs; without a corruption, that of MMPretrain's MAE."""
    crop = dict(crop_ratio_range=(0.2, 1.0), backend='pillow', interpolation='bicubic')
    augmentation = [LoadImageFromFile(), RandomResizedCrop(224, **crop), RandomFlip(0.5)]
    if corruption is None:
        return [*augmentation, PackInputs()]
    meta_keys = ('sample_idx', 'img_path', 'corruption')
    return [*augmentation, corruption, PackInputs(meta_keys=meta_keys)]


def datasets_of(folder: Path) -> dict[str, CustomDataset]:
    """MAE's dataset and one per corruption, as in their configs."""
    mae = CustomDataset(
        str(folder), with_label=False, extensions=EXTENSIONS, pipeline=pipeline_of(None)
    )
    datasets = {BASELINE: mae}
    for name, corruption in CORRUPTIONS.items():
        pipeline = pipeline_of(corruption)
        datasets[name] = ImageFolder(str(folder), extensions=EXTENSIONS, pipeline=pipeline)
        datasets[name].set_epoch(0)  # draws that depend on the epoch and the image, as in training
    return datasets


def measure_transforms(datasets: dict[str, CustomDataset], repeats: int) -> dict[str, float]:
    """Time the pipelines in turn for each image.

    Args:
        datasets: Datasets of the same images.
        repeats: How often each image is read, cropped and corrupted, ≥ 1.

    Returns:
        Mean CPU milliseconds per image.
    """
    times = defaultdict(list)
    baseline = datasets[BASELINE]
    for image in range(len(baseline)):
        baseline[image]  # reads the file into the system's cache
    for repeat in track(range(repeats), 'transforms'):
        for image in range(len(baseline)):
            for name, dataset in datasets.items():
                info = dataset.get_data_info(image)
                np.random.seed([repeat, image])
                start = process_time()
                dataset.pipeline(info)
                times[name].append(process_time() - start)
    return {name: 1000 * float(np.mean(values)) for name, values in times.items()}


def _collate_and_stamp(samples: list) -> dict:
    # CPU time of the worker process, all threads, just before it collates.
    return dict(stamp=process_time(), **default_collate(samples))


def measure_worker(dataset: Dataset) -> tuple[float, float]:
    """Time a loader with one worker.

    Returns:
        CPU milliseconds and bytes of images sent, per image.
    """
    count = (BATCHES + 1) * BATCH_SIZE
    indices = [i % len(dataset) for i in range(count)]
    loader = DataLoader(
        dataset, BATCH_SIZE, sampler=indices, num_workers=1, collate_fn=_collate_and_stamp
    )
    stamps = []
    for batch in loader:
        stamps.append(batch['stamp'])
        inputs = batch['inputs']
        images = inputs if isinstance(inputs, list) else [inputs]
        sent = sum(image.nbytes for image in images) / BATCH_SIZE
    return 1000 * (stamps[-1] - stamps[0]) / (BATCHES * BATCH_SIZE), sent


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table and write it as Markdown."""
    parser = OneLineParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('folder', type=Path, help='folder of JPEG images, searched at any depth')
    parser.add_argument('--repeats', type=int, default=5, help='crops per image, and rounds')
    parser.add_argument('--output', type=Path, help='Markdown file to write')
    args = parser.parse_args(argv)
    if args.repeats < 1:
        parser.error(f'--repeats must be >= 1, got {args.repeats}')
    try:
        datasets = datasets_of(args.folder)
    except (FileNotFoundError, RuntimeError) as error:
        parser.error(f'{args.folder} holds no {" or ".join(EXTENSIONS)} file: {error}')

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    alone = measure_transforms(datasets, args.repeats)
    rounds = defaultdict(list)
    for _ in track(range(args.repeats), 'workers'):
        for name, dataset in datasets.items():
            rounds[name].append(measure_worker(dataset))
    worker, sent = {}, {}
    for name, values in rounds.items():
        worker[name], sent[name] = np.median(values, axis=0)

    count = len(datasets[BASELINE])
    title = f'{device_name()}, one thread, {count} images, {args.repeats} crops of 224² each'
    header = ('pipeline', 'ms', '× MAE', 'worker ms', '× MAE', 'img/s', 'KB')
    rows = [
        (
            name,
            f'{alone[name]:.2f}',
            f'{alone[name] / alone[BASELINE]:.2f}',
            f'{worker[name]:.2f}',
            f'{worker[name] / worker[BASELINE]:.2f}',
            f'{1000 / worker[name]:.0f}',
            f'{sent[name] / 1000:.0f}',
        )
        for name in datasets
    ]
    print_table(Console(), header, rows, title)
    if args.output is not None:
        lines = [header, ('---', *['---:'] * (len(header) - 1)), *rows]
        args.output.write_text(f'{title}:\n\n{markdown_table(lines)}\n')


if __name__ == '__main__':
    main()
