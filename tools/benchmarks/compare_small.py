"""Compare ways to pretrain on a folder of small images: one table, one plot, one command.

python tools/benchmarks/compare_small.py data/cifar10
python tools/benchmarks/compare_small.py data/cifar10 --methods scratch mae --seeds 0 1 2

Every method pretrains the same backbone for as many epochs, and is judged by the same finetuning
and the same linear probe. What has run already is not run again; an interrupted run goes on.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from statistics import mean, stdev

import matplotlib
import numpy as np
from mmengine.config import Config
from mmengine.logging import MMLogger
from rich.console import Console
from rich.progress import track

from mmebm.apis import find_images
from mmebm.utils.tables import markdown_table, write_csv

matplotlib.use('Agg')
from matplotlib import pyplot as plt

CONFIGS = Path(__file__).parents[2] / 'configs/small'
TRAIN = Path(__file__).parents[1] / 'train.py'
PROTOCOLS = ('finetune', 'linear')
SCRATCH = 'scratch'  # no pretraining: random weights


def pretraining_configs() -> dict[str, Path]:
    """Method → its config, for each in configs/small whose backbone the protocols can take."""
    names = {path.stem.split('_')[0]: path for path in sorted(CONFIGS.glob('*_vit-micro-*.py'))}
    return {name: path for name, path in names.items() if name not in (*PROTOCOLS, SCRATCH)}


def protocol_config(protocol: str, method: str) -> Path:
    """The config of a protocol for the backbone of a method; BEiT's is one of its own."""
    backbone = 'beit' if method == 'beit' else 'vit'
    (path,) = CONFIGS.glob(f'{protocol}_{backbone}-micro-*.py')
    return path


def shorten(config: Config, epochs: int) -> None:
    """Run for ``epochs`` ≥ 2, warm-up included; validate after the last one only."""
    warm_up, decay = config.param_scheduler
    warm_up.end = decay.begin = min(warm_up.end, max(1, epochs // 5))
    decay.end = epochs
    decay.T_max = max(1, epochs - decay.begin)
    config.train_cfg.max_epochs = epochs
    if config.get('val_cfg') is not None:
        config.train_cfg.val_interval = epochs


def resize(config: Config, width: int, depth: int) -> None:
    """Give the backbone ``width`` channels and ``depth`` layers, and fit what is behind it.

    Raises:
        ValueError: the heads of its attention cannot share the width evenly.
    """
    arch = config.model.backbone.arch
    if width % arch.num_heads:
        raise ValueError(f'--width must be a multiple of the {arch.num_heads} heads, got {width}')
    before = arch.embed_dims
    arch.update(embed_dims=width, num_layers=depth, feedforward_channels=4 * width)
    for part in ('neck', 'head'):
        options = config.model.get(part) or {}
        for key in ('embed_dim', 'embed_dims', 'in_channels', 'input_features'):
            if options.get(key) == before:
                options[key] = width
    if 'frozen_stages' in config.model.backbone:
        config.model.backbone.frozen_stages = depth


@contextmanager
def environment(variables: dict[str, str]):
    """Environment variables that configs read, while the context is open."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def stage_config(
    path: Path, args: argparse.Namespace, seed: int, epochs: int, **variables: str
) -> Config:
    """A config of this comparison: its data, its length, its backbone."""
    with environment(variables):
        config = Config.fromfile(path)
    shorten(config, epochs)
    if args.width is not None or args.depth is not None:
        arch = config.model.backbone.arch
        resize(config, args.width or arch.embed_dims, args.depth or arch.num_layers)
    config.randomness.seed = seed
    config.default_hooks.checkpoint.update(max_keep_ckpts=2, save_best=None)
    config.visualizer.vis_backends = [dict(type='LocalVisBackend')]
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if config.get(loader) is not None and args.workers is not None:
            config[loader].update(num_workers=args.workers, persistent_workers=args.workers > 0)
    return config


def labelled_subset(data_root: Path, file: Path, per_class: int) -> Path:
    """Write a list of ``per_class`` labelled training images of each class, evenly spread.

    Raises:
        ValueError: a class has fewer.
    """
    lines = []
    classes = sorted(folder for folder in (data_root / 'train').iterdir() if folder.is_dir())
    for label, folder in enumerate(classes):
        images = find_images(folder)
        if len(images) < per_class:
            raise ValueError(
                f'--labels-per-class {per_class} is more than the {len(images)} of {folder}'
            )
        picks = np.linspace(0, len(images) - 1, per_class).round().astype(int)
        lines += [f'{images[i].relative_to(folder.parent)} {label}\n' for i in picks]
    file.write_text(''.join(lines))
    return file


def run_stage(config: Config, work_dir: Path, epochs: int) -> Path:
    """Train a config in a process of its own, unless it has been; returns the last checkpoint.

    Raises:
        RuntimeError: the training failed; its output is in ``work_dir``.
        ValueError: ``work_dir`` holds a run with other options.
    """
    checkpoint = work_dir / f'epoch_{epochs}.pth'
    stage = work_dir.with_suffix('.py')  # beside it: the runner writes its own into work_dir
    config.work_dir = str(work_dir)
    if stage.exists() and stage.read_text() != config.pretty_text:
        raise ValueError(f'{work_dir} holds a run with other options: name another --work-dir')
    if checkpoint.exists():
        return checkpoint
    work_dir.mkdir(parents=True, exist_ok=True)
    config.dump(stage)
    start = time.perf_counter()
    with open(work_dir / 'output.txt', 'a') as output:
        code = subprocess.call(
            [sys.executable, str(TRAIN), str(stage), '--resume'],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    if code != 0:
        raise RuntimeError(f'training failed, see {work_dir / "output.txt"}')
    with open(work_dir / 'seconds.txt', 'a') as seconds:
        seconds.write(f'{time.perf_counter() - start:.0f}\n')
    return checkpoint


def scalars(work_dir: Path) -> list[dict]:
    """What a run has logged, oldest first."""
    files = sorted(work_dir.glob('*/vis_data/scalars.json'))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def read_result(pretraining: Path | None, evaluation: Path) -> dict[str, float]:
    """Final accuracy in %, and seconds of wall time (of all attempts) of both stages."""

    def seconds(folder: Path) -> int:
        return sum(int(line) for line in (folder / 'seconds.txt').read_text().split())

    accuracy = [entry['accuracy/top1'] for entry in scalars(evaluation) if 'accuracy/top1' in entry]
    return {
        'accuracy': accuracy[-1],
        'pretraining_s': 0 if pretraining is None else seconds(pretraining),
        'evaluation_s': seconds(evaluation),
    }


def draw_curves(rows: list[dict], work_dir: Path) -> None:
    """curves.png: the training loss of each protocol by epoch, and of each pretraining.

    Losses of different pretext tasks are of different scale, so each pretraining is shown as a
    share of its first value.
    """
    stages = ['pretraining', *dict.fromkeys(row['protocol'] for row in rows)]
    runs = dict.fromkeys((row['seed'], row['method']) for row in rows)
    methods = list(dict.fromkeys(method for _, method in runs))
    figure, axes = plt.subplots(
        1, len(stages), figsize=(4.5 * len(stages), 3.2), squeeze=False, layout='constrained'
    )
    for axis, stage in zip(axes[0], stages, strict=True):
        for seed, method in runs:
            folder = work_dir / f'seed{seed}' / method / stage
            logged = [entry for entry in scalars(folder) if 'loss' in entry]
            losses = [entry['loss'] for entry in logged]
            if stage == 'pretraining':
                losses = [loss / losses[0] for loss in losses]
            epochs = [entry['epoch'] for entry in logged]
            place = methods.index(method)
            label = method if seed == rows[0]['seed'] else None
            colour = 'C7' if method == SCRATCH else f'C{place % 7}'
            style = '.-' if place < 7 else '.--'
            axis.plot(epochs, losses, style, color=colour, label=label)
        relative = ', of its first value' if stage == 'pretraining' else ''
        axis.set(title=stage, xlabel='epoch', ylabel=f'training loss{relative}')
        axis.spines[['top', 'right']].set_visible(False)
    axes[0, -1].legend(fontsize='small', frameon=False)
    figure.savefig(work_dir / 'curves.png', dpi=150)
    plt.close(figure)


def report(rows: list[dict], work_dir: Path) -> str:
    """Write results.csv, results.md and results.png; returns the table."""
    write_csv(rows, work_dir / 'results.csv')
    found = defaultdict(list)
    for row in rows:
        found[row['method'], row['protocol']].append(row['accuracy'])
    methods = list(dict.fromkeys(row['method'] for row in rows))
    protocols = [p for p in PROTOCOLS if any(row['protocol'] == p for row in rows)]

    def cell(values: list[float]) -> str:
        spread = f' ± {stdev(values):.1f}' if len(values) > 1 else ''
        return f'{mean(values):.1f}{spread}' if values else ''

    lines = [
        ['method', *protocols],
        ['---', *['---:'] * len(protocols)],
        *([m, *(cell(found[m, p]) for p in protocols)] for m in methods),
    ]
    table = markdown_table(lines)
    (work_dir / 'results.md').write_text(f'{table}\n')
    figure, axes = plt.subplots(
        1, len(protocols), figsize=(4.5 * len(protocols), 0.4 * len(methods) + 1.2), sharey=True,
        squeeze=False, layout='constrained',
    )  # fmt: skip
    for axis, protocol in zip(axes[0], protocols, strict=True):
        for place, method in enumerate(methods):
            values = found[method, protocol]
            if values:
                axis.barh(place, mean(values), color='C7' if method == SCRATCH else 'C0')
                axis.plot(values, [place] * len(values), 'k.')
                axis.annotate(f'{mean(values):.1f}', (mean(values), place), (4, 0),
                              textcoords='offset points', va='center')  # fmt: skip
        if found[SCRATCH, protocol]:
            axis.axvline(mean(found[SCRATCH, protocol]), color='C7', linestyle=':')
        axis.set(title=protocol, xlabel='accuracy in %', yticks=range(len(methods)))
        axis.set_yticklabels(methods)
        axis.margins(x=0.15)
        axis.spines[['top', 'right']].set_visible(False)
    axes[0, 0].invert_yaxis()
    figure.savefig(work_dir / 'results.png', dpi=150)
    plt.close(figure)
    return table


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('data_root', help='folder with train/CLASS/IMAGE and test/CLASS/IMAGE')
    parser.add_argument('--work-dir', default='work_dirs/compare_small')
    methods = [SCRATCH, *pretraining_configs()]
    parser.add_argument(
        '--methods', nargs='+', choices=methods, metavar='METHOD',
        default=[m for m in methods if m != 'beit'],
        help=f'of {", ".join(methods)}; all but beit, which needs the weights of its tokenizer',
    )  # fmt: skip
    parser.add_argument('--protocols', nargs='+', choices=PROTOCOLS, default=list(PROTOCOLS))
    parser.add_argument('--seeds', nargs='+', type=int, default=[0])
    parser.add_argument('--pretraining-epochs', type=int, default=40)
    parser.add_argument('--epochs', type=int, default=40, help='of finetuning and linear probe')
    parser.add_argument('--labels-per-class', type=int, help='all of the training part by default')
    parser.add_argument('--width', type=int, help="the backbone's channels (192)")
    parser.add_argument('--depth', type=int, help="the backbone's layers (6)")
    parser.add_argument('--num-steps', type=int, help='N of the energy methods (2)')
    parser.add_argument('--workers', type=int, help='processes that load images')
    args = parser.parse_args(argv)
    for name, least in (('pretraining_epochs', 2), ('epochs', 2), ('labels_per_class', 1),
                        ('width', 1), ('depth', 1), ('num_steps', 0), ('workers', 0)):  # fmt: skip
        value = getattr(args, name)
        if value is not None and value < least:
            parser.error(f'--{name.replace("_", "-")} must be ≥ {least}, got {value}')
    if not (Path(args.data_root) / 'train').is_dir():
        parser.error(f'{args.data_root} has no sub-folder train')
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    console = Console()
    MMLogger.get_instance('mmengine', log_level='WARNING')  # not a line per variable of a config
    work_dir = Path(args.work_dir).resolve()
    work_dir.mkdir(parents=True, exist_ok=True)
    data_root = Path(args.data_root).resolve()
    classes = [path for path in (data_root / 'train').iterdir() if path.is_dir()]
    variables = dict(DATA_ROOT=str(data_root), NUM_CLASSES=str(len(classes)))
    configs = pretraining_configs()
    rows = []
    try:
        labels = args.labels_per_class and labelled_subset(
            data_root, work_dir / f'labels_{args.labels_per_class}.txt', args.labels_per_class
        )
        runs = [(seed, method) for seed in args.seeds for method in args.methods]
        for seed, method in track(runs, 'comparing', console=console):
            folder = work_dir / f'seed{seed}' / method
            pretraining = None
            if method != SCRATCH:
                length = args.pretraining_epochs
                config = stage_config(configs[method], args, seed, length, **variables)
                if args.num_steps is not None and method.startswith('energy'):
                    config.model.num_steps = args.num_steps
                pretraining = folder / 'pretraining'
                variables['PRETRAINED'] = str(run_stage(config, pretraining, length))
            for protocol in args.protocols:
                path = protocol_config(protocol, method)
                config = stage_config(path, args, seed, args.epochs, **variables)
                if labels:
                    config.train_dataloader.dataset.ann_file = str(labels)
                if method == SCRATCH:
                    del config.default_hooks['pretrained_backbone']
                run_stage(config, folder / protocol, args.epochs)
                result = read_result(pretraining, folder / protocol)
                rows.append({'method': method, 'seed': seed, 'protocol': protocol, **result})
                table = report(rows, work_dir)
                said = f'seed {seed}, {method}, {protocol}: {result["accuracy"]:.2f} %'
                console.print(said, soft_wrap=True)
    except (OSError, ValueError, RuntimeError) as error:
        print(f'compare_small.py: {error}', file=sys.stderr)
        return 2
    draw_curves(rows, work_dir)
    console.print(table, soft_wrap=True)
    console.print(f'Look at {work_dir / "results.png"} and curves.png', soft_wrap=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
