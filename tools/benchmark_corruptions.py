"""Measure what each corruption costs, beside decoding and cropping the image that it corrupts.

The first line of the table is LoadImageFromFile and RandomResizedCrop to 224² (bicubic, Pillow).

python tools/benchmark_corruptions.py FOLDER
python tools/benchmark_corruptions.py FOLDER --repeats 10 --output costs.md
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
from mmcv.transforms import Compose, LoadImageFromFile
from mmpretrain.datasets.transforms import RandomResizedCrop
from rich.console import Console
from rich.progress import track
from rich.table import Table

from mmebm._device import device_name
from mmebm.corruptions import (
    BaseCorruption,
    Colorization,
    GaussianNoise,
    GriddedMask,
    MixedCorruption,
    RandomBlockMask,
    SuperResolution,
)

BASELINE = 'load and crop'
RANDOM_SMALL = dict(num_blocks=75, area_range=(0.01, 0.025), aspect_range=(0.5, 2.0))
RANDOM_LARGE = dict(num_blocks=25, area_range=(0.02, 0.05), aspect_range=(0.5, 2.0))
CORRUPTIONS: dict[str, BaseCorruption] = {
    'GriddedMask 16, 50 %': GriddedMask(16, 0.5),
    'GriddedMask 32, 50 %': GriddedMask(32, 0.5),
    'RandomBlockMask small': RandomBlockMask(**RANDOM_SMALL),
    'RandomBlockMask large': RandomBlockMask(**RANDOM_LARGE),
    'SuperResolution 8×': SuperResolution(8),
    'SuperResolution 16×': SuperResolution(16),
    'SuperResolution 32×': SuperResolution(32),
    'SuperResolution 16×, no antialias': SuperResolution(16, antialias=False),
    'GaussianNoise': GaussianNoise(),
    'Colorization': Colorization(),
    'MixedCorruption of four': MixedCorruption(
        [RandomBlockMask(**RANDOM_LARGE), SuperResolution(16), GaussianNoise(), Colorization()]
    ),
}


def measure(paths: Sequence[Path], repeats: int) -> dict[str, float]:
    """Time decoding, cropping and every corruption, in turn for each image.

    Args:
        paths: Image files.
        repeats: How often each file is read, cropped anew and corrupted.

    Returns:
        Median milliseconds per image: first of decode and crop, then of each corruption.
    """
    cv2.setNumThreads(1)
    np.random.seed(0)
    load_and_crop = Compose(
        [
            LoadImageFromFile(),
            RandomResizedCrop(224, interpolation='bicubic', backend='pillow'),
        ]
    )
    times = defaultdict(list)
    for _ in track(range(repeats), 'measuring'):
        for path in paths:
            start = perf_counter()
            image = load_and_crop(dict(img_path=str(path)))['img']
            times[BASELINE].append(perf_counter() - start)
            for name, corruption in CORRUPTIONS.items():
                start = perf_counter()
                corruption(dict(img=image))
                times[name].append(perf_counter() - start)
    return {name: 1000 * float(np.median(values)) for name, values in times.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table and write it as markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('folder', type=Path, help='folder of JPEG images, searched at any depth')
    parser.add_argument('--repeats', type=int, default=5, help='crops of each image')
    parser.add_argument('--output', type=Path, help='markdown file to write')
    args = parser.parse_args(argv)
    if args.repeats < 1:
        parser.error(f'--repeats must be >= 1, got {args.repeats}')
    paths = sorted(p for p in args.folder.rglob('*') if p.suffix.lower() in ('.jpg', '.jpeg'))
    if not paths:
        parser.error(f'{args.folder} holds no .jpg or .jpeg file')

    costs = measure(paths, args.repeats)
    title = f'{device_name()}, one thread, {len(paths)} images, {args.repeats} crops of 224² each'
    header = ('transform', 'median ms', 'share of load and crop')
    rows = [(n, f'{ms:.2f}', f'{100 * ms / costs[BASELINE]:.0f} %') for n, ms in costs.items()]

    table = Table(*header, title=title)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    if args.output is not None:
        lines = [header, ('---', '---:', '---:'), *rows]
        table_lines = [f'| {" | ".join(line)} |' for line in lines]
        args.output.write_text('\n'.join([f'{title}:', '', *table_lines, '']))


if __name__ == '__main__':
    main()
