"""Measure what a worker spends on an image, compared with MMPretrain's MAE pipeline.

Every row is a whole pipeline: LoadImageFromFile, RandomResizedCrop to 224² (bicubic, Pillow),
RandomFlip, the corruption (MAE: none), PackInputs, in CPU time of one thread. The pipelines take
turns, image by image, and get the same crops.

python tools/benchmarks/benchmark_corruptions.py FOLDER [--repeats 10]
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from time import process_time

import cv2
import numpy as np
import torch
from mmpretrain.datasets import CustomDataset
from rich.console import Console
from rich.progress import track

import mmebm  # noqa: F401  registers the corruptions
from mmebm.cli.errors import one_line_errors
from mmebm.cli.parser import OneLineParser
from mmebm.datasets import ImageFolder
from mmebm.utils.device import device_name
from mmebm.utils.tables import print_table

BASELINE = 'MAE of MMPretrain'
SMALL = dict(num_blocks=75, area_range=(0.01, 0.025), aspect_range=(0.5, 2.0))
LARGE = dict(num_blocks=25, area_range=(0.02, 0.05), aspect_range=(0.5, 2.0))
FOUR = [
    dict(type='RandomBlockMask', **LARGE),
    dict(type='SuperResolution', scale=16),
    dict(type='GaussianNoise', on_device=True),
    dict(type='Colorization'),
]
CORRUPTIONS = {
    'GriddedMask 16, 50 %': dict(type='GriddedMask', patch_size=16, ratio=0.5),
    'GriddedMask 32, 50 %': dict(type='GriddedMask', patch_size=32, ratio=0.5),
    'RandomBlockMask small': dict(type='RandomBlockMask', **SMALL),
    'RandomBlockMask large': FOUR[0],
    'SuperResolution 8×': dict(type='SuperResolution', scale=8),
    'SuperResolution 16×': FOUR[1],
    'SuperResolution 32×': dict(type='SuperResolution', scale=32),
    'Colorization': FOUR[3],
    'GaussianNoise': FOUR[2],
    'GaussianNoise, float32': dict(type='GaussianNoise'),
    'MixedCorruption of four': dict(type='MixedCorruption', corruptions=FOUR),
    'Blur, σ 1 to 3': dict(type='Blur', sigma_range=(1, 3)),
    'JPEGCompression, quality 5 to 30': dict(type='JPEGCompression', quality_range=(5, 30)),
    'FrequencyMask, float32': dict(type='FrequencyMask', low_range=(0.05, 0.25), width=0.1),
    'Shuffle 32': dict(type='Shuffle', patch_size=32),
    'Fog': dict(type='Fog'),
}


def milliseconds(folder: str, repeats: int) -> dict[str, float]:
    """Mean CPU time per image of the pipeline of MAE and of each corruption."""
    crop = dict(crop_ratio_range=(0.2, 1.0), backend='pillow', interpolation='bicubic')
    load = [
        dict(type='LoadImageFromFile'),
        dict(type='RandomResizedCrop', scale=224, **crop),
        dict(type='RandomFlip', prob=0.5),
    ]
    pack = dict(type='PackInputs')
    baseline = CustomDataset(folder, with_label=False, pipeline=[*load, pack])
    datasets = {BASELINE: baseline}
    for name, corruption in CORRUPTIONS.items():
        datasets[name] = ImageFolder(folder, pipeline=[*load, corruption, pack])
        datasets[name].set_epoch(0)  # draws that depend on the epoch and the image, as in training
    times = defaultdict(list)
    for repeat in track(range(repeats), 'crops'):
        for image in range(len(baseline)):
            baseline[image]  # reads the file into the system's cache
            for name, dataset in datasets.items():
                info = dataset.get_data_info(image)
                np.random.seed([repeat, image])
                start = process_time()
                dataset.pipeline(info)
                times[name].append(process_time() - start)
    return {name: 1000 * float(np.mean(values)) for name, values in times.items()}


def main(argv: Sequence[str] | None = None) -> None:
    parser = OneLineParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('folder', help='folder of images, searched at any depth')
    parser.add_argument('--repeats', type=int, default=5, help='crops per image (default: 5)')
    args = parser.parse_args(argv)
    if args.repeats < 1:
        parser.error(f'--repeats must be >= 1, got {args.repeats}')
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with one_line_errors('benchmark_corruptions.py'):
        found = milliseconds(args.folder, args.repeats)
    rows = [(name, f'{ms:.2f}', f'{ms / found[BASELINE]:.2f}') for name, ms in found.items()]
    print_table(Console(), ('pipeline', 'ms per image', '× MAE'), rows, device_name())


if __name__ == '__main__':
    main()
