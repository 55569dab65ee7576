"""Compare pretraining methods on a folder of small images, on equal terms.

python tools/benchmarks/compare_small.py data/cifar10
python tools/benchmarks/compare_small.py data/cifar10 --methods scratch mae --seeds 0 1 2
python tools/benchmarks/compare_small.py data/cifar10 --plan    # what is left to run

Every method has the same backbone, position embedding, augmentation, batch, precision, finetuning
and probes. Learning rates and layer decay are chosen for each method from the same grid, on a
validation split of the training images; test images are used once, with the chosen values.
Finished runs are not repeated, and an interrupted run continues.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

import matplotlib
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.logging import MMLogger
from mmpretrain.registry import DATASETS, MODELS
from rich.console import Console
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.utils.data import DataLoader

from mmebm.apis import FeatureExtractor, find_images
from mmebm.backbones import set_sincos_position_embedding
from mmebm.cli.parser import OneLineParser
from mmebm.evaluation.knn import knn_predict
from mmebm.utils.checkpoint import load_checkpoint_safely
from mmebm.utils.device import device_name
from mmebm.utils.tables import markdown_table, write_csv

matplotlib.use('Agg')
from matplotlib import pyplot as plt

CONFIGS = Path(__file__).parents[2] / 'configs/small'
TRAIN = Path(__file__).parents[1] / 'train.py'
PROTOCOLS = ('finetune', 'probe', 'knn')
SCRATCH = 'scratch'  # no pretraining: random weights
NEIGHBOURS = 20


class Stage(NamedTuple):
    """One training run: ``kind`` is 'pretraining' or 'finetune'; no folder if not yet chosen."""

    method: str
    kind: str
    epochs: int
    folder: Path | None = None

    @property
    def checkpoint(self) -> Path:
        return self.folder / f'epoch_{self.epochs}.pth'

    @property
    def done(self) -> bool:
        return self.folder is not None and self.checkpoint.exists()


# Configs ----------------------------------------------------------------------------------------


def pretraining_configs() -> dict[str, Path]:
    """Method → config, for every config in configs/small whose backbone can be finetuned."""
    names = {path.stem.split('_')[0]: path for path in sorted(CONFIGS.glob('*_vit-micro-*.py'))}
    return {k: v for k, v in names.items() if k not in ('finetune', 'linear', SCRATCH)}


def finetuning_config(method: str) -> Path:
    """The config that finetunes the backbone of a method; BEiT has its own."""
    backbone = 'beit' if method == 'beit' else 'vit'
    (path,) = CONFIGS.glob(f'finetune_{backbone}-micro-*.py')
    return path


def shorten(config: Config, epochs: int) -> None:
    """Set the length to ``epochs`` ≥ 2, warm-up included."""
    warm_up, decay = config.param_scheduler
    warm_up.end = decay.begin = min(warm_up.end, max(1, epochs // 5))
    decay.end = epochs
    decay.T_max = max(1, epochs - decay.begin)
    config.train_cfg.max_epochs = epochs


def resize(config: Config, width: int, depth: int) -> None:
    """Give the backbone ``width`` channels and ``depth`` layers, and adapt neck and head.

    Raises:
        ValueError: the width is not a multiple of the number of attention heads.
    """
    arch = config.model.backbone.arch
    if width % arch.num_heads:
        raise ValueError(f'--width must be a multiple of the {arch.num_heads} heads, got {width}')
    before = arch.embed_dims
    arch.update(embed_dims=width, num_layers=depth, feedforward_channels=4 * width)
    for part in ('neck', 'head'):
        options = config.model.get(part) or {}
        for key in ('embed_dim', 'embed_dims', 'in_channels'):
            if options.get(key) == before:
                options[key] = width


@contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables that configs read, within the context."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def stage_config(
    path: Path,
    args: argparse.Namespace,
    seed: int,
    epochs: int,
    lr: float,
    layer_decay: float | None = None,
    **variables: str,
) -> Config:
    """A config with this comparison's length, learning rate and backbone, without validation."""
    with environment(variables):
        config = Config.fromfile(path)
    shorten(config, epochs)
    if args.width is not None or args.depth is not None:
        arch = config.model.backbone.arch
        resize(config, args.width or arch.embed_dims, args.depth or arch.num_layers)
    if args.num_steps is not None and config.model.type.startswith('Energy'):
        config.model.num_steps = args.num_steps
    config.optim_wrapper.optimizer.lr = lr
    if layer_decay is not None:
        config.optim_wrapper.paramwise_cfg.layer_decay_rate = layer_decay
    config.randomness.seed = seed
    config.default_hooks.checkpoint.update(max_keep_ckpts=2, save_best=None)
    config.visualizer.vis_backends = [dict(type='LocalVisBackend')]
    if args.workers is not None:
        config.train_dataloader.update(
            num_workers=args.workers, persistent_workers=args.workers > 0
        )
    # All is measured below, in the same way for every method; training sees no test image.
    config.val_dataloader = config.val_cfg = config.val_evaluator = None
    return config


# Data -------------------------------------------------------------------------------------------


def split_training_images(
    data_root: Path, folder: Path, share: float, seed: int, per_class: int | None = None
) -> dict[str, Path]:
    """Split the training images of each class at random, and write the lists that datasets read.

    Args:
        data_root: holds ``train/CLASS/IMAGE``.
        folder: where the lists go.
        share: of each class for validation, in (0, 1); at least one image.
        seed: of the split.
        per_class: labelled images of each class for finetuning and probes; None takes all that are
            not for validation.

    Returns:
        ``unlabelled`` (lines of ``CLASS/IMAGE``, everything but validation), ``labelled`` and
        ``val`` (lines of ``CLASS/IMAGE LABEL``).

    Raises:
        ValueError: a class has too few images.
    """
    lines = dict(unlabelled=[], labelled=[], val=[])
    rng = np.random.default_rng(seed)
    classes = sorted(path for path in (data_root / 'train').iterdir() if path.is_dir())
    for label, path in enumerate(classes):
        images = [str(image.relative_to(path.parent)) for image in find_images(path)]
        images = [images[i] for i in rng.permutation(len(images))]
        held_out = max(1, round(share * len(images)))
        val, rest = images[:held_out], images[held_out:]
        if len(rest) < (per_class or 1):
            raise ValueError(
                f'--labels-per-class {per_class or 1} is more than the {len(rest)} images of '
                f'{path} that are not for validation'
            )
        lines['unlabelled'] += sorted(rest)
        lines['labelled'] += [f'{image} {label}' for image in rest[:per_class]]
        lines['val'] += [f'{image} {label}' for image in val]
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: folder / f'{name}.txt' for name in lines}
    for name, file in files.items():
        file.write_text('\n'.join(lines[name]) + '\n')
    return files


def batches(config: Config, split: str, files: dict[str, Path]) -> Iterator[dict]:
    """The images of ``'labelled'``, ``'val'`` or ``'test'`` with labels, without augmentation."""
    dataset = config.test_dataloader.dataset.copy()
    if split != 'test':
        dataset.update(data_prefix='train', ann_file=str(files[split]))
    yield from DataLoader(DATASETS.build(dataset), batch_size=256, collate_fn=pseudo_collate)


def labels(batch: dict) -> Tensor:
    return torch.cat([sample.gt_label for sample in batch['data_samples']])


# What is measured -------------------------------------------------------------------------------


@torch.no_grad()
def accuracy(config: Config, checkpoint: Path, split: str, files: dict[str, Path]) -> float:
    """Top-1 accuracy in % of a finetuned classifier."""
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    model = MODELS.build(config.model).to(device).eval()
    model.load_state_dict(load_checkpoint_safely(checkpoint)['state_dict'])
    right = count = 0
    for batch in batches(config, split, files):
        inputs = model.data_preprocessor(batch)['inputs']
        predicted = model(inputs).argmax(1).cpu()
        right += (predicted == labels(batch)).sum().item()
        count += len(predicted)
    return 100 * right / count


@torch.no_grad()
def layer_features(
    extractor: FeatureExtractor, config: Config, split: str, files: dict[str, Path]
) -> tuple[Tensor, Tensor]:
    """The mean over the patches after every layer, ``(layers, images, D)``, and the labels."""
    backbone, found = extractor.model.backbone, []
    hooks = [
        layer.register_forward_hook(
            lambda module, args, out: found.append(out[:, backbone.num_extra_tokens :].mean(1))
        )
        for layer in backbone.layers
    ]
    features, targets = [], []
    try:
        for batch in batches(config, split, files):
            found.clear()
            extractor(batch)
            features.append(torch.stack(found).float().cpu())
            targets.append(labels(batch))
    finally:
        for hook in hooks:
            hook.remove()
    return torch.cat(features, dim=1), torch.cat(targets)


def frozen_accuracy(
    config: Config, checkpoint: Path | None, seed: int, split: str, files: dict[str, Path]
) -> dict[str, list[float]]:
    """Accuracies in % of a linear probe and of nearest neighbours, after every layer.

    The probe is logistic regression on standardised features (scikit-learn's L-BFGS, C = 1).

    Args:
        config: the finetuning config.
        checkpoint: of pretraining; None takes random weights.
        seed: of the random weights.
        split: ``'val'`` or ``'test'``.
        files: see :func:`split_training_images`.

    Returns:
        ``probe`` and ``knn``, a number per layer each.
    """
    extractor = FeatureExtractor(config, checkpoint, seed=seed)
    if hasattr(extractor.model.backbone, 'pos_embed') and checkpoint is None:
        set_sincos_position_embedding(extractor.model.backbone)
    features, targets = layer_features(extractor, config, 'labelled', files)
    queries, truth = layer_features(extractor, config, split, files)
    result = dict(probe=[], knn=[])
    for x, q in zip(features, queries, strict=True):
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        probe.fit(x.numpy(), targets.numpy())
        result['probe'].append(100 * probe.score(q.numpy(), truth.numpy()))
        predicted = knn_predict(x, targets, q, k=min(NEIGHBOURS, len(x)))
        result['knn'].append(100 * (predicted == truth).double().mean().item())
    return result


# Running ----------------------------------------------------------------------------------------


def train(config: Config, stage: Stage) -> None:
    """Train a config in a process of its own, unless it is done; an interrupted run continues.

    Raises:
        RuntimeError: the training failed; its output is in the folder.
        ValueError: the folder holds a run with other options.
    """
    folder = stage.folder
    # Next to the folder: the runner writes its own files inside. JSON: pretty_text is slow.
    file, options = (folder.with_name(f'{folder.name}.{kind}') for kind in ('py', 'json'))
    config.work_dir = str(folder)
    text = json.dumps(config.to_dict(), indent=1)
    if options.exists() and options.read_text() != text:
        raise ValueError(f'{folder} holds a run with other options: name another --work-dir')
    if stage.done:
        return
    folder.mkdir(parents=True, exist_ok=True)
    config.dump(file)
    options.write_text(text)
    start, cpu = time.perf_counter(), children_cpu_seconds()
    try:
        with open(folder / 'output.txt', 'a') as output:
            code = subprocess.call(
                [sys.executable, str(TRAIN), str(file), '--resume'],
                stdout=output,
                stderr=subprocess.STDOUT,
            )
    finally:  # also of an attempt that is interrupted
        with open(folder / 'seconds.txt', 'a') as seconds:
            wall = time.perf_counter() - start
            seconds.write(f'{wall:.1f} {children_cpu_seconds() - cpu:.1f}\n')
    if code != 0:
        raise RuntimeError(f'training failed, see {folder / "output.txt"}')


def children_cpu_seconds() -> float:
    """User and system time of all processes that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def seconds_spent(folder: Path | None) -> tuple[float, float]:
    """Wall time and CPU time of all attempts at a stage, in seconds."""
    if folder is None or not (folder / 'seconds.txt').exists():
        return 0.0, 0.0
    lines = (folder / 'seconds.txt').read_text().splitlines()
    wall, cpu = np.array([line.split() for line in lines], dtype=float).sum(0)
    return float(wall), float(cpu)


def remembered(file: Path, measure) -> dict:
    """The result of ``measure()``, read from a file if it was measured before."""
    if not file.exists():
        result = measure()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(result))
    return json.loads(file.read_text())


class Comparison:
    """The training runs and measurements of one command line, in ``work_dir``.

    Attributes:
        rows: of results.csv, a dict per measurement.
    """

    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.work_dir = Path(args.work_dir).resolve()
        self.data_root = Path(args.data_root).resolve()
        self.files = split_training_images(
            self.data_root, self.work_dir / 'split', args.val_share, args.split_seed,
            args.labels_per_class,
        )  # fmt: skip
        classes = [path for path in (self.data_root / 'train').iterdir() if path.is_dir()]
        self.variables = dict(DATA_ROOT=str(self.data_root), NUM_CLASSES=str(len(classes)))
        self.rows: list[dict] = []

    def pretraining(self, method: str, seed: int, epochs: int, lr: float) -> Stage:
        folder = self.work_dir / method / f'seed{seed}' / f'pretraining_{epochs}e_lr{lr:g}'
        return Stage(method, 'pretraining', epochs, folder)

    def finetuning(self, start: Stage | None, seed: int, lr: float, layer_decay: float) -> Stage:
        """The stage that finetunes a backbone, or trains from scratch if ``start`` is None."""
        epochs = self.args.epochs
        method = start.method if start else SCRATCH
        base = start.folder if start else self.work_dir / SCRATCH / f'seed{seed}' / 'random'
        folder = base.with_name(f'{base.name}_finetune_{epochs}e_lr{lr:g}_decay{layer_decay:g}')
        return Stage(method, 'finetune', epochs, folder)

    def pretrain(self, method: str, seed: int, epochs: int, lr: float) -> Stage:
        stage = self.pretraining(method, seed, epochs, lr)
        config = stage_config(
            pretraining_configs()[method], self.args, seed, epochs, lr, **self.variables
        )
        config.train_dataloader.dataset.ann_file = str(self.files['unlabelled'])
        train(config, stage)
        return stage

    def classifier_config(
        self, start: Stage | None, seed: int, lr: float, layer_decay: float
    ) -> Config:
        method = start.method if start else SCRATCH
        variables = dict(self.variables, PRETRAINED=str(start.checkpoint) if start else 'none')
        config = stage_config(
            finetuning_config(method), self.args, seed, self.args.epochs, lr, layer_decay,
            **variables,
        )  # fmt: skip
        config.train_dataloader.dataset.ann_file = str(self.files['labelled'])
        if start is None:
            del config.default_hooks['pretrained_backbone']
        elif config.default_hooks.get('position_embedding'):
            # The same embedding for all: the sorting auto-encoder would bring zeros.
            config.default_hooks.position_embedding.priority = 'LOWEST'
        return config

    def finetune(
        self, start: Stage | None, seed: int, lr: float, layer_decay: float, split: str
    ) -> dict:
        """Finetune and measure; return the row."""
        config = self.classifier_config(start, seed, lr, layer_decay)
        stage = self.finetuning(start, seed, lr, layer_decay)
        train(config, stage)
        result = remembered(
            stage.folder / f'{split}.json',
            lambda: dict(accuracy=accuracy(config, stage.checkpoint, split, self.files)),
        )
        return self.row(
            start, seed, split, 'finetune', result['accuracy'], stage,
            epochs=stage.epochs, lr=lr, layer_decay=layer_decay,
        )  # fmt: skip

    def frozen(self, start: Stage | None, seed: int, split: str) -> list[dict]:
        """Measure probe and nearest neighbours after every layer; return the rows."""
        config = self.classifier_config(start, seed, lr=0.0, layer_decay=1.0)
        base = start.folder if start else self.work_dir / SCRATCH / f'seed{seed}' / 'random'
        found = remembered(
            base.with_name(f'{base.name}_frozen_{split}.json'),
            lambda: frozen_accuracy(
                config, start.checkpoint if start else None, seed, split, self.files
            ),
        )
        return [
            self.row(start, seed, split, protocol, value, layer=layer + 1)
            for protocol in ('probe', 'knn')
            if protocol in self.args.protocols
            for layer, value in enumerate(found[protocol])
        ]

    def row(
        self, start: Stage | None, seed: int, split: str, protocol: str, value: float,
        stage: Stage | None = None, **options,
    ) -> dict:  # fmt: skip
        wall, cpu = seconds_spent(start and start.folder)
        wall_after, cpu_after = seconds_spent(stage and stage.folder)
        lr = float(start.folder.name.rpartition('_lr')[2]) if start else ''
        return dict(
            method=start.method if start else SCRATCH,
            seed=seed,
            split=split,
            protocol=protocol,
            accuracy=round(value, 3),
            pretraining_epochs=start.epochs if start else 0,
            pretraining_lr=lr,
            **(dict.fromkeys(('epochs', 'lr', 'layer_decay', 'layer'), '') | options),
            pretraining_cpu_s=cpu,
            pretraining_s=wall,
            evaluation_cpu_s=cpu_after,
            evaluation_s=wall_after,
            device=device_name('cuda' if torch.cuda.is_available() else 'cpu'),
        )

    def starts(self, method: str) -> list[tuple[int, float]]:
        """Epochs and learning rates of pretraining to choose from."""
        if method == SCRATCH:
            return [(0, 0.0)]
        return [(self.args.pretraining_epochs[0], lr) for lr in self.args.pretraining_lrs]

    def grid(self) -> list[tuple[float, float]]:
        """Learning rates and layer decays of finetuning to choose from."""
        if 'finetune' not in self.args.protocols:
            return []
        return [(lr, d) for lr in self.args.lrs for d in self.args.layer_decays]

    def choose(self, method: str) -> dict[str, dict]:
        """Try the grid with the first seed on the validation split; return the best rows.

        The first protocol chooses the learning rate of pretraining.
        """
        seed, tried = self.args.seeds[0], []
        for epochs, lr in self.starts(method):
            start = None if method == SCRATCH else self.pretrain(method, seed, epochs, lr)
            tried += [self.finetune(start, seed, *options, split='val') for options in self.grid()]
            if {'probe', 'knn'} & set(self.args.protocols):
                tried += self.frozen(start, seed, 'val')
        self.rows += tried
        return choose(tried, self.args.protocols)

    def final(self, method: str, seed: int, epochs: int, chosen: dict[str, dict]) -> None:
        """Train with the chosen values, and measure on the test images."""
        start = None
        if method != SCRATCH:
            lr = next(iter(chosen.values()))['pretraining_lr']
            start = self.pretrain(method, seed, epochs, lr)
        frozen = [p for p in ('probe', 'knn') if p in chosen]
        rows = self.frozen(start, seed, 'test') if frozen else []
        self.rows += [r for r in rows if r['layer'] == chosen[r['protocol']]['layer']]
        if 'finetune' in chosen:
            best = chosen['finetune']
            self.rows.append(
                self.finetune(start, seed, best['lr'], best['layer_decay'], split='test')
            )

    def lengths(self, method: str) -> list[int]:
        return [0] if method == SCRATCH else self.args.pretraining_epochs

    def plan(self) -> list[Stage]:
        """Every training run of this command, in order, as far as known yet."""
        args, stages = self.args, []
        for method in args.methods:
            for epochs, lr in self.starts(method):
                start = None
                if method != SCRATCH:
                    start = self.pretraining(method, args.seeds[0], epochs, lr)
                    stages.append(start)
                stages += [self.finetuning(start, args.seeds[0], *o) for o in self.grid()]
        for method in args.methods:
            for seed, epochs in self.runs(method):
                if (seed, epochs) == (args.seeds[0], self.lengths(method)[0]):
                    continue  # in the list already
                folders = [None, None]
                base = self.work_dir / method / f'seed{seed}'
                if method != SCRATCH:
                    found = sorted(base.glob(f'pretraining_{epochs}e_lr*/epoch_{epochs}.pth'))
                    folders[0] = found[0].parent if found else None
                    stages.append(Stage(method, 'pretraining', epochs, folders[0]))
                if self.grid():
                    name = 'random' if method == SCRATCH else f'pretraining_{epochs}e_lr*'
                    found = sorted(base.glob(f'{name}_finetune_*/epoch_{args.epochs}.pth'))
                    folders[1] = found[0].parent if found else None
                    stages.append(Stage(method, 'finetune', args.epochs, folders[1]))
        return stages

    def runs(self, method: str) -> list[tuple[int, int]]:
        """Seed and pretraining epochs of each final run."""
        return [(seed, e) for e in self.lengths(method) for seed in self.args.seeds]


def choose(rows: list[dict], protocols: list[str]) -> dict[str, dict]:
    """The row with the highest validation accuracy per protocol, at one pretraining learning rate.

    The first protocol chooses the learning rate of pretraining; ties go to the earlier row.
    """
    chosen, kept = {}, rows
    for protocol in protocols:
        best = max((r for r in kept if r['protocol'] == protocol), key=lambda r: r['accuracy'])
        chosen[protocol] = best
        kept = [r for r in rows if r['pretraining_lr'] == best['pretraining_lr']]
    return chosen


def what_is_left(stages: list[Stage]) -> str:
    """A sentence: how many training runs are left, and about how long they take.

    The time per epoch is that of the same kind and method, or the mean of the other methods if none
    has run.
    """
    left = [stage for stage in stages if not stage.done]
    speeds = defaultdict(list)
    for stage in stages:
        if stage.done:
            per_epoch = seconds_spent(stage.folder)[0] / stage.epochs
            speeds[stage.kind, stage.method].append(per_epoch)
            speeds[stage.kind, None].append(per_epoch)
    sentence = f'{len(left)} of {len(stages)} training runs left'
    if not left:
        return sentence
    hours, unknown = 0.0, 0
    for stage in left:
        found = speeds[stage.kind, stage.method] or speeds[stage.kind, None]
        hours += stage.epochs * mean(found) / 3600 if found else 0
        unknown += not found
    if unknown:
        return f'{sentence}, about {hours:.1f} h without {unknown} of a kind that has not run yet'
    return f'{sentence}, about {hours:.1f} h at the speed so far'


# Reports ----------------------------------------------------------------------------------------


def mean_and_error(values: list[float]) -> str:
    """Mean ± its standard error; a single value has none."""
    if not values:
        return ''
    error = f' ± {stdev(values) / len(values) ** 0.5:.1f}' if len(values) > 1 else ''
    return f'{mean(values):.1f}{error}'


def report(rows: list[dict], work_dir: Path) -> str:
    """Write results.csv, results.md and results.png; return the table of the test images."""
    write_csv(rows, work_dir / 'results.csv')
    tested = [row for row in rows if row['split'] == 'test']
    found, cpu = defaultdict(list), defaultdict(list)
    for row in tested:
        run = row['method'], row['pretraining_epochs']
        found[run, row['protocol']].append(row['accuracy'])
        cpu[run].append(row['pretraining_cpu_s'])
    protocols = [p for p in PROTOCOLS if any(row['protocol'] == p for row in tested)]
    lines = [
        ['method', 'epochs', 'CPU hours', *protocols],
        ['---', '---:', '---:', *['---:'] * len(protocols)],
    ]
    for run, seconds in cpu.items():
        cells = [mean_and_error(found[run, p]) for p in protocols]
        lines.append([*run, f'{mean(seconds) / 3600:.2f}', *cells])
    table = markdown_table(lines)
    (work_dir / 'results.md').write_text(f'{table}\n')
    if tested:
        draw(found, cpu, protocols, work_dir / 'results.png')
    return table


def draw(found: dict, cpu: dict, protocols: list[str], file: Path) -> None:
    """Accuracy against epochs of pretraining (above) and against its CPU hours (below)."""
    methods = list(dict.fromkeys(method for method, _ in cpu))
    figure, axes = plt.subplots(
        2, len(protocols), figsize=(4.5 * len(protocols), 6), squeeze=False, layout='constrained'
    )
    for column, protocol in enumerate(protocols):
        for place, method in enumerate(methods):
            runs = [run for run in cpu if run[0] == method and found[run, protocol]]
            values = [found[run, protocol] for run in runs]
            means = [mean(v) for v in values]
            errors = [stdev(v) / len(v) ** 0.5 if len(v) > 1 else 0 for v in values]
            across = [run[1] for run in runs], [mean(cpu[run]) / 3600 for run in runs]
            for axis, x in zip(axes[:, column], across, strict=True):
                if method == SCRATCH:
                    if means:
                        axis.axhline(means[0], color='C7', linestyle=':', label=method)
                    continue
                style = 'o-' if place < 7 else 's--'
                axis.errorbar(x, means, errors, fmt=style, color=f'C{place % 7}', label=method)
        axes[0, column].set(title=protocol, xlabel='epochs of pretraining')
        axes[1, column].set(xlabel='CPU hours of pretraining')
    for axis in axes.flat:
        axis.set(ylabel='test accuracy in %')
        axis.spines[['top', 'right']].set_visible(False)
    axes[0, -1].legend(fontsize='small', frameon=False)
    figure.savefig(file, dpi=150)
    plt.close(figure)


# Command line -----------------------------------------------------------------------------------


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = OneLineParser(description=__doc__.splitlines()[0])
    parser.add_argument('data_root', help='folder with train/CLASS/IMAGE and test/CLASS/IMAGE')
    parser.add_argument('--work-dir', default='work_dirs/compare_small')
    methods = [SCRATCH, *pretraining_configs()]
    parser.add_argument(
        '--methods', nargs='+', choices=methods, metavar='METHOD',
        default=[m for m in methods if m != 'beit'],
        help=f'of {", ".join(methods)}; all but beit, which needs the weights of its tokenizer',
    )  # fmt: skip
    parser.add_argument(
        '--protocols', nargs='+', choices=PROTOCOLS, default=list(PROTOCOLS),
        help="the first one chooses each method's learning rate of pretraining",
    )  # fmt: skip
    parser.add_argument(
        '--seeds', nargs='+', type=int, default=[0], help='the first one makes the choices'
    )
    parser.add_argument(
        '--pretraining-epochs', nargs='+', type=int, default=[40],
        help='one run per length, each with its own schedule; the first one makes the choices',
    )  # fmt: skip
    parser.add_argument('--epochs', type=int, default=40, help='epochs of finetuning')
    parser.add_argument('--pretraining-lrs', nargs='+', type=float, default=[1e-3, 3e-3])
    parser.add_argument('--lrs', nargs='+', type=float, default=[1e-3, 3e-3], help='of finetuning')
    parser.add_argument('--layer-decays', nargs='+', type=float, default=[0.75, 1.0])
    parser.add_argument(
        '--val-share', type=float, default=0.1, help='share of the training images for the choices'
    )
    parser.add_argument('--split-seed', type=int, default=0)
    parser.add_argument(
        '--labels-per-class', type=int, help='defaults to all outside the validation split'
    )
    parser.add_argument('--width', type=int, help="the backbone's channels (192)")
    parser.add_argument('--depth', type=int, help="the backbone's layers (6)")
    parser.add_argument('--num-steps', type=int, help='N of the energy methods (2)')
    parser.add_argument('--workers', type=int, help='data-loading processes')
    parser.add_argument('--plan', action='store_true', help='only print what is left to run')
    args = parser.parse_args(argv)
    for name, least in (('pretraining_epochs', 2), ('epochs', 2), ('labels_per_class', 1),
                        ('width', 1), ('depth', 1), ('num_steps', 0), ('workers', 0)):  # fmt: skip
        value = getattr(args, name)
        for number in value if isinstance(value, list) else [value]:
            if number is not None and number < least:
                parser.error(f'--{name.replace("_", "-")} must be ≥ {least}, got {number}')
    for name in ('pretraining_lrs', 'lrs', 'layer_decays'):
        for number in getattr(args, name):
            if not number > 0:
                parser.error(f'--{name.replace("_", "-")} must be > 0, got {number}')
    if not 0 < args.val_share < 1:
        parser.error(f'--val-share must be in (0, 1), got {args.val_share}')
    if not (Path(args.data_root) / 'train').is_dir():
        parser.error(f'{args.data_root} has no sub-folder train')
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    console = Console()
    MMLogger.get_instance('mmengine', log_level='WARNING')  # else it logs a config's variables
    try:
        comparison = Comparison(args)
        console.print(what_is_left(comparison.plan()), soft_wrap=True)
        if args.plan:
            return 0
        chosen = {}
        for method in args.methods:
            chosen[method] = comparison.choose(method)
            report(comparison.rows, comparison.work_dir)
            best = ', '.join(f'{p} {r["accuracy"]:.1f} %' for p, r in chosen[method].items())
            console.print(f'{method}, validation: {best}', soft_wrap=True)
            console.print(what_is_left(comparison.plan()), soft_wrap=True)
        for method in args.methods:  # test images only after all choices
            for seed, epochs in comparison.runs(method):
                comparison.final(method, seed, epochs, chosen[method])
                table = report(comparison.rows, comparison.work_dir)
                console.print(what_is_left(comparison.plan()), soft_wrap=True)
    except (OSError, ValueError, RuntimeError) as error:
        print(f'compare_small.py: {error}', file=sys.stderr)
        return 2
    console.print(table, soft_wrap=True)
    console.print(f'Look at {comparison.work_dir / "results.png"}', soft_wrap=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
