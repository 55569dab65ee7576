"""Compare pretraining configs on a folder of labelled images, on equal terms.

mmebm benchmark data/cifar10 --out work_dirs/benchmark
mmebm benchmark data/cifar10 --out work_dirs/b --methods scratch mae --seeds 0 1
mmebm benchmark data/cifar10 --out work_dirs/other --methods my_pretraining.py \\
    --backbone my_finetuning.py

FOLDER holds train/CLASS/IMAGE and test/CLASS/IMAGE: images of 32 x 32 pixels for configs/small. A
config is a name in configs/small or a file, of MMPretrain's methods too. All of them get the same
images, initial weights, finetuning and probes. Learning rates and layer decay are chosen for each
from the same grid, on a validation split of the training images; test images are used once, with
the chosen values. The same command continues an interrupted benchmark and repeats no finished run.
A run that fails is a row of the results; remove its folder to try it again. The exit code is 0 if
any config could be tested. Writes results.csv, results.md and results.png.
"""

import argparse
from pathlib import Path

from ..benchmark.options import BenchmarkOptions
from ..options import add_options, given_options

GO_ON = 'run the same command again to continue'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser, BenchmarkOptions)


def check(args: argparse.Namespace) -> None:
    root = Path(given_options(BenchmarkOptions, args).data_root)
    for part in ('train', 'test'):
        if not (root / part).is_dir():
            needed = 'train/CLASS/IMAGE and test/CLASS/IMAGE'
            raise FileNotFoundError(f'{root} has no folder {part}: it must hold {needed}')


def run(args: argparse.Namespace) -> int:
    """Run all that is left; 0, also if some of it failed."""
    options = given_options(BenchmarkOptions, args)
    from mmengine.logging import MMLogger

    from ..benchmark.comparison import Benchmark

    MMLogger.get_instance('mmengine', log_level='WARNING')  # else it logs a config's variables
    benchmark = Benchmark(options)
    print(benchmark.run(lambda text: print(text, flush=True)))
    print(f'Results: {benchmark.out}/results.csv, results.md, results.png')
    return 0
