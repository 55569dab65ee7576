"""Compare pretraining methods on a folder of labelled images, on equal terms.

mmebm benchmark data/cifar10 --out work_dirs/benchmark
mmebm benchmark data/cifar10 --out work_dirs/benchmark --methods scratch mae --seeds 0 1 2
mmebm benchmark data/cifar10 --out work_dirs/benchmark --plan    # what is left to run
mmebm benchmark data/photos --out work_dirs/photos --backbone timm/vit_small_patch16_224

FOLDER holds train/CLASS/IMAGE and test/CLASS/IMAGE: images of 32 x 32 pixels for the backbones of
configs/small, of any size for others. Every method has the same backbone, position embedding,
augmentation, batch, precision, finetuning and probes. Learning rates and layer decay are chosen for
each method from the same grid, on a validation split of the training images; test images are used
once, with the chosen values. Finished runs are not repeated, and an interrupted run continues.
A run that diverges or runs out of memory is named in the results and left out; remove its folder to
try it again. The exit code is 0 if any method could be tested.
Writes results.csv, results.md, results.png and report.html.
"""

import argparse

METHODS = 'scratch, mae, energy-mixed, ae-denoising, ...'
GO_ON = 'run the same command again to continue'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('data_root', metavar='FOLDER')
    parser.add_argument('--out', required=True, metavar='FOLDER', help='for runs and results')
    parser.add_argument(
        '--methods',
        nargs='+',
        metavar='METHOD',
        help=f'{METHODS} (the names in configs/small); defaults to all but beit, which needs the '
        'weights of its tokenizer',
    )
    parser.add_argument(
        '--backbone',
        default='vit-micro-p4',
        metavar='NAME',
        help='timm/NAME, mmpretrain/NAME, a config file, or one of configs/small: vit-micro-p4 '
        '(the default), swin-micro-p2, convnext-micro-p2; a ViT has the most methods',
    )
    parser.add_argument(
        '--image-size',
        type=int,
        metavar='PIXELS',
        help="of the sides (default: the backbone's own)",
    )
    parser.add_argument(
        '--protocols',
        nargs='+',
        metavar='PROTOCOL',
        default=('finetune', 'probe', 'knn'),
        help="of finetune, probe, knn (the default); the first one chooses each method's learning "
        'rate of pretraining',
    )
    parser.add_argument(
        '--seeds', nargs='+', type=int, default=(0,), help='the first one makes the choices'
    )
    parser.add_argument(
        '--pretraining-epochs',
        nargs='+',
        type=int,
        default=(40,),
        metavar='EPOCHS',
        help='one run per length, each with its own schedule; the first one makes the choices',
    )
    parser.add_argument('--epochs', type=int, default=40, help='epochs of finetuning')
    for option, stage in (('--pretraining-lrs', 'pretraining'), ('--lrs', 'finetuning')):
        parser.add_argument(
            option,
            nargs='+',
            type=float,
            default=(1e-3, 3e-3),
            metavar='LR',
            help=f'learning rates of {stage} to choose from (default: 1e-3 3e-3)',
        )
    parser.add_argument(
        '--layer-decays',
        nargs='+',
        type=float,
        default=(0.75, 1.0),
        metavar='DECAY',
        help='factors of the learning rate from layer to layer to choose from (default: 0.75 1)',
    )
    parser.add_argument(
        '--val-share',
        type=float,
        default=0.1,
        metavar='SHARE',
        help='share of the training images for the choices',
    )
    parser.add_argument(
        '--split-seed', type=int, default=0, metavar='SEED', help='draws these images (default: 0)'
    )
    parser.add_argument(
        '--labels-per-class',
        type=int,
        metavar='N',
        help='defaults to all outside the validation split',
    )
    parser.add_argument('--width', type=int, help="the ViT's channels (192)")
    parser.add_argument('--depth', type=int, help="the ViT's layers (6)")
    parser.add_argument('--num-steps', type=int, metavar='N', help='N of the energy methods (2)')
    parser.add_argument('--batch-size', type=int, metavar='B', help='of pretraining (128)')
    parser.add_argument('--workers', type=int, help='data-loading processes')
    parser.add_argument(
        '--jobs', type=int, default=1, metavar='N', help='training runs at the same time'
    )
    parser.add_argument('--plan', action='store_true', help='only print what is left to run')


def run(args: argparse.Namespace) -> int:
    """Run all that is left, or print it; 0, also if some of it failed."""
    from dataclasses import fields

    from mmengine.logging import MMLogger
    from rich.console import Console

    from ..apis.benchmark import Benchmark, BenchmarkOptions, plan_table, what_is_left
    from ..utils.tables import print_table

    names = [field.name for field in fields(BenchmarkOptions)]
    options = BenchmarkOptions(**{name: getattr(args, name) for name in names})
    MMLogger.get_instance('mmengine', log_level='WARNING')  # else it logs a config's variables
    console = Console()

    def say(text: str) -> None:
        console.print(text, soft_wrap=True, highlight=False, markup=False)

    benchmark = Benchmark(options)
    if args.plan:
        stages = benchmark.plan()
        for line in (*benchmark.notes, what_is_left(stages, options.jobs)):
            say(line)
        print_table(console, ('method', 'pretraining', 'finetuning', 'hours'), plan_table(stages))
        return 0
    say(benchmark.run(say))
    say(f'Look at {benchmark.out / "report.html"}')
    return 0
