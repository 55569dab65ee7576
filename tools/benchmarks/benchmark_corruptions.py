"""Measure what a worker spends on an image, compared with MMPretrain's MAE pipeline.

Every row is the whole training pipeline of a config, in CPU time of one thread. The pipelines take
turns, image by image, and get the same crops.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from time import process_time

import cv2
import numpy as np
import torch
from mmengine.config import Config
from rich.console import Console
from rich.progress import track

from mmebm.cli.errors import one_line_errors
from mmebm.cli.parser import OneLineParser, at_least
from mmebm.datasets import ImageFolder
from mmebm.utils.device import device_name
from mmebm.utils.tables import print_table

CONFIGS = Path(__file__).parents[2] / 'configs'
PATTERNS = ('masking/*-50_*', 'masking/*random*', 'restoration/*', 'mixed/*vit-small*-200e*')


def milliseconds(folder: str, configs: Sequence[str | Path], repeats: int) -> dict[str, float]:
    """Mean CPU time per image of each config's pipeline, by the first word of its name."""
    datasets, times = {}, defaultdict(list)
    for path in configs:
        pipeline = Config.fromfile(path).train_dataloader.dataset.pipeline
        dataset = datasets[Path(path).name.split('_')[0]] = ImageFolder(folder, pipeline=pipeline)
        dataset.set_epoch(0)  # draws that depend on the epoch and the image, as in training
    for repeat in track(range(repeats), 'crops'):
        for image in range(len(dataset)):
            dataset[image]  # reads the file into the system's cache
            for name, each in datasets.items():
                info = each.get_data_info(image)
                np.random.seed([repeat, image])
                start = process_time()
                each.pipeline(info)
                times[name].append(process_time() - start)
    return {name: 1000 * float(np.mean(values)) for name, values in times.items()}


def main(argv: Sequence[str] | None = None) -> None:
    parser = OneLineParser(description=__doc__)
    parser.add_argument('folder', help='folder of images, searched at any depth')
    parser.add_argument('configs', nargs='*', help="configs; default: the paper's on ImageNet")
    parser.add_argument('--repeats', type=at_least(1), default=5, help='crops each (default: 5)')
    args = parser.parse_args(argv)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    mae = next(CONFIGS.glob('baselines/mae_*'))
    configs = args.configs or [path for p in PATTERNS for path in sorted(CONFIGS.glob(p + '.py'))]
    with one_line_errors('benchmark_corruptions.py'):
        found = milliseconds(args.folder, [mae, *configs], args.repeats)
    rows = [(name, f'{ms:.2f}', f'{ms / found["mae"]:.2f}') for name, ms in found.items()]
    print_table(Console(), ('pipeline', 'ms per image', '× MAE'), rows, device_name())


if __name__ == '__main__':
    main()
