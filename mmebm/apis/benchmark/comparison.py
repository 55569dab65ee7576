"""Compare pretraining methods on a folder of labelled images, on equal terms.

Every method has the same backbone, position embedding, augmentation, batch, precision, finetuning
and probes. Learning rates and layer decay are chosen for each method from the same grid, on a
validation split of the training images; test images are used once, with the chosen values.
Finished runs are not repeated, and an interrupted run continues. A run that fails, since it
diverges or memory runs out, is reported and left out.
"""

import json
import shlex
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cached_property
from math import isnan, nan
from pathlib import Path
from statistics import mean

import torch
from mmengine.config import Config
from PIL import Image

from ...datasets.files import find_images
from ...utils import nearest_name
from ...utils.device import device_name
from ...utils.run_history import read_history
from ...utils.shipped_files import shipped
from ...utils.tables import markdown_table, write_csv
from ...utils.whole_files import WholeFilesBackend
from ...version import __version__
from ...visualization.benchmark_page import (
    LAST_LAYER,
    BenchmarkReport,
    benchmark_page,
    draw_results,
    failure_line,
    failures,
    result_table,
    summarised,
)
from ...visualization.page import Curve, write_page
from .compute import seconds_spent
from .configs import (
    SCRATCH,
    finetuning_config,
    methods_for,
    pretraining_configs,
    replacement,
    stage_config,
)
from .measuring import (
    accuracy,
    check_lists,
    frozen_accuracy,
    split_training_images,
    write_lists,
)
from .network import SMALL_SIZE, BenchmarkBackbone
from .options import BenchmarkOptions, class_folders
from .runs import Processes, Stage, TrainingFailed, gpus_shared, train

NO_DECAY = (1.0,)  # of the learning rate by layer
COPIES = 'repeated'  # sub-folder of out for the commands of report.html


def remembered(file: Path, measure: Callable[[], dict]) -> dict:
    """The result of ``measure()``, read from a file if it was measured before."""
    if not file.exists():
        WholeFilesBackend().put(json.dumps(measure()).encode(), file)
    return json.loads(file.read_text())


class Benchmark:
    """The training runs and measurements of a comparison.

    ``out`` gets ``results.csv`` (a row per measurement), ``results.md``, ``results.png`` and
    ``report.html``, after each step, and a folder per training run.

    Args:
        options: what to compare.

    Attributes:
        rows: of results.csv, a dict per measurement.

    Raises:
        FileNotFoundError: a folder, or the images of a class, are missing.
        ValueError: the methods do not fit the backbone, the images are not 32 × 32 pixels though
            the backbone is one of ``configs/small``, or ``out`` holds something else.
    """

    def __init__(self, options: BenchmarkOptions):
        self.options = options
        self.backbone = replacement(options)
        self.configs, against = configs_of(options, self.backbone)
        self.methods = chosen_methods(options, self.configs, against)
        self.notes = [] if self.backbone is None else notes(options, self.backbone, against)
        self.shared = gpus_shared(options.jobs, torch.cuda.device_count())
        self.notes += [self.shared] if self.shared else []
        self.out = Path(options.out).resolve()
        self.data_root = Path(options.data_root).resolve()
        check_images(self.data_root, self.backbone)
        if self.out.exists() and not (self.out / 'split').is_dir() and any(self.out.iterdir()):
            raise ValueError(f'{self.out} holds something else: name another out')
        self.lists = split_training_images(
            self.data_root, options.val_share, options.split_seed, options.labels_per_class
        )
        check_lists(self.lists, self.out / 'split')
        self.classes = [path.name for path in class_folders(self.data_root, 'train')]
        self.variables = dict(DATA_ROOT=str(self.data_root), NUM_CLASSES=str(len(self.classes)))
        self.processes = Processes(options.jobs)
        self.rows: list[dict] = []
        self._said = ''
        self._measuring = threading.Lock()  # random weights draw from torch's one generator

    @cached_property
    def files(self) -> dict[str, Path]:
        """The lists of images, written when first asked for: a plan writes nothing."""
        return write_lists(self.lists, self.out / 'split')

    def run(self, say: Callable[[str], object] = print) -> str:
        """Train and measure all that is left; runs that fail are said and left out.

        Args:
            say: called with a line after each step.

        Returns:
            The table of the test images and what has failed, as Markdown.

        Raises:
            RuntimeError: every training run failed, or one was ended from outside.
            ValueError: ``out`` holds runs with other options.
        """
        self.files  # noqa: B018 before there are several threads
        for note in self.notes:
            say(note)
        self._say_what_is_left(say)
        tries = [(method, *start) for method in self.methods for start in self.starts(method)]
        tried: dict[tuple, list[dict]] = {}
        chosen: dict[str, dict[str, dict]] = {}
        for key, rows in self.processes.each(self.attempt, tries):
            tried[key] = rows
            self.rows = [row for key in tries for row in tried.get(key, [])]
            method = key[0]
            if all(other in tried for other in tries if other[0] == method):
                found = [row for row in self.rows if row['method'] == method]
                chosen[method] = choose(found, self.options.protocols)
                best = ', '.join(f'{p} {r["accuracy"]:.1f} %' for p, r in chosen[method].items())
                say(f'{method}, validation: {best or "every run failed"}')
            self._say_failures(rows, say)
            self.report()
            self._say_what_is_left(say)
        if not any(chosen.values()):
            first = failures(self.rows)[0]
            raise RuntimeError(f'every training run failed. {first} in {self.out}')
        # test images only after all choices
        finals = [(m, *run) for m in self.methods if chosen[m] for run in self.runs(m)]
        before, tested = self.rows, {}

        def final(key: tuple[str, int, int]) -> list[dict]:
            return self.final(*key, chosen[key[0]])

        for key, rows in self.processes.each(final, finals):
            tested[key] = rows
            self.rows = before + [row for key in finals for row in tested.get(key, [])]
            self._say_failures(rows, say)
            self.report()
            self._say_what_is_left(say)
        return self.report()

    def _say_what_is_left(self, say: Callable[[str], object]) -> None:
        sentence = what_is_left(self.plan(), self.options.jobs)
        if sentence != self._said:
            say(sentence)
        self._said = sentence

    def _say_failures(self, rows: Sequence[dict], say: Callable[[str], object]) -> None:
        for row in rows:
            if row['failed']:
                say(failure_line(row))

    def pretraining(self, method: str, seed: int, epochs: int, lr: float) -> Stage:
        folder = self.out / method / f'seed{seed}' / f'pretraining_{epochs}e_lr{lr:g}'
        return Stage(method, 'pretraining', epochs, folder)

    def finetuning(self, start: Stage | None, seed: int, lr: float, layer_decay: float) -> Stage:
        """The stage that finetunes a backbone, or trains from scratch if ``start`` is None."""
        epochs = self.options.epochs
        method = start.method if start else SCRATCH
        base = start.folder if start else self.out / SCRATCH / f'seed{seed}' / 'random'
        folder = base.with_name(f'{base.name}_finetune_{epochs}e_lr{lr:g}_decay{layer_decay:g}')
        return Stage(method, 'finetune', epochs, folder)

    def pretrain(self, method: str, seed: int, epochs: int, lr: float) -> Stage:
        stage = self.pretraining(method, seed, epochs, lr)
        config = stage_config(
            self.configs[method],
            self.options,
            seed,
            epochs,
            lr,
            backbone=self.backbone,
            **self.variables,
        )
        if self.options.batch_size is not None:
            config.train_dataloader.batch_size = self.options.batch_size
        _train_on(config, self.files['unlabelled'])
        train(config, stage, self.processes)
        return stage

    def classifier_config(
        self, start: Stage | None, seed: int, lr: float, layer_decay: float
    ) -> Config:
        method = start.method if start else SCRATCH
        variables = dict(self.variables, PRETRAINED=str(start.checkpoint) if start else 'none')
        config = stage_config(
            self._finetuning_config(method),
            self.options,
            seed,
            self.options.epochs,
            lr,
            layer_decay,
            backbone=self.backbone,
            **variables,
        )
        _train_on(config, self.files['labelled'])
        if start is None:
            del config.default_hooks['pretrained_backbone']
        elif config.default_hooks.get('position_embedding'):
            # The same embedding for all: the sorting auto-encoder would bring zeros.
            config.default_hooks.position_embedding.priority = 'LOWEST'
        return config

    def _finetuning_config(self, method: str) -> Path:
        if self.backbone is None:
            return finetuning_config(method, self.options.backbone)
        return finetuning_config(method)

    def finetune(
        self, start: Stage | None, seed: int, lr: float, layer_decay: float, split: str
    ) -> dict:
        """Finetune and measure; return the row, also if it fails."""
        config = self.classifier_config(start, seed, lr, layer_decay)
        stage = self.finetuning(start, seed, lr, layer_decay)
        values = dict(epochs=stage.epochs, lr=lr, layer_decay=layer_decay)
        try:
            train(config, stage, self.processes)
        except TrainingFailed:
            return self.row(start, seed, split, 'finetune', nan, stage, **values)
        result = remembered(
            stage.folder / f'{split}.json',
            self._one_by_one(
                lambda: dict(accuracy=accuracy(config, stage.checkpoint, split, self.files))
            ),
        )
        return self.row(start, seed, split, 'finetune', result['accuracy'], stage, **values)

    def frozen(self, start: Stage | None, seed: int, split: str) -> list[dict]:
        """Measure probe and nearest neighbours after every layer; return the rows."""
        config = self.classifier_config(start, seed, lr=0.0, layer_decay=1.0)
        base = start.folder if start else self.out / SCRATCH / f'seed{seed}' / 'random'
        found = remembered(
            base.with_name(f'{base.name}_frozen_{split}.json'),
            self._one_by_one(
                lambda: frozen_accuracy(
                    config, start.checkpoint if start else None, seed, split, self.files
                )
            ),
        )
        return [
            self.row(start, seed, split, protocol, value, layer=layer + 1)
            for protocol in ('probe', 'knn')
            if protocol in self.options.protocols
            for layer, value in enumerate(found[protocol])
        ]

    def _one_by_one(self, measure: Callable[[], dict]) -> Callable[[], dict]:
        def locked() -> dict:
            with self._measuring:
                return measure()

        return locked

    def row(
        self, start: Stage | None, seed: int, split: str, protocol: str, value: float,
        stage: Stage | None = None, **options,
    ) -> dict:  # fmt: skip
        """A row of results.csv; ``value`` is NaN if a run has failed, or the features have."""
        wall, cpu = seconds_spent(start and start.folder)
        wall_after, cpu_after = seconds_spent(stage and stage.folder)
        lr = float(start.folder.name.rpartition('_lr')[2]) if start else ''
        last, failed = stage or start, 'features not finite' if isnan(value) else ''
        if last and last.failure:
            failed = f'{last.failure}, see {last.folder.relative_to(self.out) / "output.txt"}'
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
            failed=failed,
        )

    def starts(self, method: str) -> list[tuple[int, float]]:
        """Epochs and learning rates of pretraining to choose from."""
        if method == SCRATCH:
            return [(0, 0.0)]
        return [(self.options.pretraining_epochs[0], lr) for lr in self.options.pretraining_lrs]

    def grid(self) -> list[tuple[float, float]]:
        """Learning rates and layer decays of finetuning to choose from."""
        if 'finetune' not in self.options.protocols:
            return []
        decays = self.options.layer_decays
        if self.backbone is not None and not self.backbone.layer_depth:
            decays = NO_DECAY
        return [(lr, d) for lr in self.options.lrs for d in decays]

    def attempt(self, key: tuple[str, int, float]) -> list[dict]:
        """Pretrain with the first seed, try the grid, and measure on the validation split."""
        method, epochs, lr = key
        seed = self.options.seeds[0]
        try:
            start = None if method == SCRATCH else self.pretrain(method, seed, epochs, lr)
        except TrainingFailed as error:
            return [self.row(error.stage, seed, 'val', 'pretraining', nan)]
        rows = [self.finetune(start, seed, *values, split='val') for values in self.grid()]
        if {'probe', 'knn'} & set(self.options.protocols):
            rows += self.frozen(start, seed, 'val')
        return rows

    def final(self, method: str, seed: int, epochs: int, chosen: dict[str, dict]) -> list[dict]:
        """Train with the chosen values, and measure on the test images."""
        start = None
        if method != SCRATCH:
            lr = next(iter(chosen.values()))['pretraining_lr']
            try:
                start = self.pretrain(method, seed, epochs, lr)
            except TrainingFailed as error:
                return [self.row(error.stage, seed, 'test', 'pretraining', nan)]
        frozen = [p for p in ('probe', 'knn') if p in chosen]
        layers = self.frozen(start, seed, 'test') if frozen else []
        rows = [r for r in layers if r['layer'] == chosen[r['protocol']]['layer']]
        probes = [r for r in layers if r['protocol'] == 'probe']
        rows += [dict(r, protocol=LAST_LAYER) for r in probes[-1:]]
        if 'finetune' in chosen:
            best = chosen['finetune']
            rows.append(self.finetune(start, seed, best['lr'], best['layer_decay'], split='test'))
        return rows

    def lengths(self, method: str) -> list[int]:
        return [0] if method == SCRATCH else self.options.pretraining_epochs

    def plan(self) -> list[Stage]:
        """Every training run of this command, in order, as far as known yet.

        Without those that a failed one is the start of, and the last runs of a method whose tries
        have all failed.
        """
        options, stages = self.options, []
        for method in self.methods:
            for epochs, lr in self.starts(method):
                start = None
                if method != SCRATCH:
                    start = self.pretraining(method, options.seeds[0], epochs, lr)
                    stages.append(start)
                if not (start and start.failure):
                    stages += [self.finetuning(start, options.seeds[0], *o) for o in self.grid()]
        tries = [stage for stage in stages if not stage.failure]
        for method in self.methods:
            pretrained, finetuned = (
                any((s.method, s.kind) == (method, kind) for s in tries)
                for kind in ('pretraining', 'finetune')
            )
            frozen = {'probe', 'knn'} & set(options.protocols)
            for seed, epochs in self.runs(method):
                if (seed, epochs) == (options.seeds[0], self.lengths(method)[0]):
                    continue  # in the list already
                base = self.out / method / f'seed{seed}'
                if pretrained and (finetuned or frozen):
                    pattern = f'pretraining_{epochs}e_lr*'
                    start = _begun(base, pattern, Stage(method, 'pretraining', epochs))
                    stages.append(start)
                    if start.failure:
                        continue
                if finetuned:
                    name = 'random' if method == SCRATCH else f'pretraining_{epochs}e_lr*'
                    stage = Stage(method, 'finetune', options.epochs)
                    stages.append(_begun(base, f'{name}_finetune_*', stage))
        return stages

    def runs(self, method: str) -> list[tuple[int, int]]:
        """Seed and pretraining epochs of each final run."""
        return [(seed, e) for e in self.lengths(method) for seed in self.options.seeds]

    def report(self) -> str:
        """Write the results so far; return results.md."""
        gpu = torch.cuda.is_available()
        write_csv(self.rows, self.out / 'results.csv')
        results = summarised(self.rows, 'pretraining_s' if gpu else 'pretraining_cpu_s')
        compute = 'GPU hours' if gpu else 'CPU hours'
        table = markdown_table(result_table(results, compute))
        failed = [f'- {line}' for line in failures(self.rows)]
        table = '\n'.join([table, *(['', 'Failed:', ''] if failed else []), *failed])
        (self.out / 'results.md').write_text(f'{table}\n')
        if results:
            draw_results(results, compute).savefig(self.out / 'results.png')
        asked = {k: v for k, v in vars(self.options).items() if v is not None}
        page = BenchmarkReport(
            title=f'Benchmark on {self.data_root.name}',
            state=what_is_left(self.plan(), self.options.jobs),
            rows=self.rows,
            results=results,
            compute=compute,
            losses=self.losses(),
            commands=self.commands(),
            copies=str(self.out / COPIES),
            whole_command=f'mmebm benchmark {shlex.join(command_line(self.options))}',
            facts={
                'classes': f'{len(self.classes)}: {", ".join(self.classes[:20])}',
                'labelled images': str(_lines(self.files['labelled'])),
                'unlabelled images': str(_lines(self.files['unlabelled'])),
                'validation images': str(_lines(self.files['val'])),
                'backbone': str(self.backbone or self.options.backbone),
                'device': device_name('cuda' if gpu else 'cpu'),
                **({'GPU hours': self.shared} if self.shared else {}),
                'mmebm': __version__,
                'torch': torch.__version__,
            },
            options={k: ', '.join(map(str, v)) if isinstance(v, list | tuple) else str(v)
                     for k, v in asked.items()},
        )  # fmt: skip
        write_page(self.out / 'report.html', benchmark_page(page))
        return table

    def losses(self) -> list[Curve]:
        """The pretraining loss of each method over iterations, as a share of the first logged."""
        curves = []
        for method in self.methods:
            rows = [
                r for r in self.rows
                if r['method'] == method and r['pretraining_epochs'] and not r['failed']
            ]  # fmt: skip
            if not rows:
                continue
            last = rows[-1]
            stage = self.pretraining(
                method, last['seed'], last['pretraining_epochs'], last['pretraining_lr']
            )
            logged = [r for r in read_history(stage.folder, None) if r.training and r.get('loss')]
            y = [r.get('loss') / logged[0].get('loss') for r in logged]
            curves.append(Curve(method, [r.iteration for r in logged], y))
        return curves

    def commands(self) -> dict[tuple[str, int], list[str]]:
        """The commands that repeat what each row of the table stands on, one per run.

        They write into ``out``/repeated, and finetune what they have pretrained there.
        """
        found: dict[tuple[str, int], list[str]] = defaultdict(list)
        for row in (r for r in self.rows if r['split'] == 'test' and not r['failed']):
            method, seed, epochs = row['method'], row['seed'], row['pretraining_epochs']
            start = None
            if method != SCRATCH:
                start = self.pretraining(method, seed, epochs, row['pretraining_lr'])
            stages = [start] if start else []
            if row['protocol'] == 'finetune':
                stages.append(self.finetuning(start, seed, row['lr'], row['layer_decay']))
            for stage in stages:
                file = stage.folder.with_name(f'{stage.folder.name}.py')
                words = [sys.executable, shipped('tools/train.py'), file]
                words += ['--work-dir', self._copy(stage.folder)]
                if start and stage.kind == 'finetune':
                    copied = self._copy(start.checkpoint)
                    key = 'default_hooks.pretrained_backbone.checkpoint'
                    words += ['--cfg-options', f'{key}={copied}']
                command = shlex.join(map(str, words))
                if command not in found[method, epochs]:
                    found[method, epochs].append(command)
        return dict(found)

    def _copy(self, path: Path) -> Path:
        return self.out / COPIES / path.relative_to(self.out)


def _begun(base: Path, pattern: str, stage: Stage) -> Stage:
    """The stage with its folder, if it is done or has failed in one that fits the pattern."""
    found = [stage._replace(folder=folder) for folder in sorted(base.glob(pattern))]
    return next((s for s in found if s.done or s.failure), stage)


def choose(rows: list[dict], protocols: Sequence[str]) -> dict[str, dict]:
    """The row with the highest validation accuracy per protocol, at one pretraining learning rate.

    The first protocol chooses the learning rate of pretraining; ties go to the earlier row. Rows of
    failed runs are passed over, and so is a protocol without any other.
    """
    rows = [row for row in rows if not row.get('failed')]
    chosen, kept = {}, rows
    for protocol in protocols:
        found = [r for r in kept if r['protocol'] == protocol]
        if not found:
            continue
        best = max(found, key=lambda r: r['accuracy'])
        chosen[protocol] = best
        kept = [r for r in rows if r['pretraining_lr'] == best['pretraining_lr']]
    return chosen


def what_is_left(stages: Sequence[Stage], jobs: int = 1) -> str:
    """A sentence: how many training runs are left, and about how long they take.

    Args:
        stages: all of them, see :meth:`Benchmark.plan`.
        jobs: how many run at the same time.
    """
    left = [stage for stage in stages if not stage.done and not stage.failure]
    sentence = f'{len(left)} of {len(stages)} training runs left'
    failed = sum(bool(stage.failure) for stage in stages)
    if failed:
        sentence += f', {failed} failed'
    if not left:
        return sentence
    hours, unknown = hours_left(left, stages)
    about = f'{sentence}, about {hours / jobs:.1f} h'
    if unknown:
        return f'{about} without {unknown} of a kind that has not run yet'
    return f'{about} at the speed so far'


def hours_left(left: Sequence[Stage], stages: Sequence[Stage]) -> tuple[float, int]:
    """How long some stages take one after the other, and how many are not in that.

    The time per epoch is that of the same kind and method, or the mean of the other methods if none
    has run; a kind of which none has run is not counted.
    """
    speeds = defaultdict(list)
    for stage in stages:
        if stage.done:
            per_epoch = seconds_spent(stage.folder)[0] / stage.epochs
            speeds[stage.kind, stage.method].append(per_epoch)
            speeds[stage.kind, None].append(per_epoch)
    hours, unknown = 0.0, 0
    for stage in left:
        found = speeds[stage.kind, stage.method] or speeds[stage.kind, None]
        hours += stage.epochs * mean(found) / 3600 if found else 0
        unknown += not found
    return hours, unknown


def plan_table(stages: Sequence[Stage]) -> list[tuple[str, str, str, str]]:
    """Per method: its name, pretraining and finetuning runs left of all, and the hours they take.

    Hours have a ``≥`` where some runs are of a kind of which none has run yet.
    """
    rows = []
    for method in dict.fromkeys(stage.method for stage in stages):
        mine = [stage for stage in stages if stage.method == method]
        left = [stage for stage in mine if not stage.done and not stage.failure]
        counts = [
            f'{sum(s.kind == kind for s in left)} of {sum(s.kind == kind for s in mine)}'
            for kind in ('pretraining', 'finetune')
        ]
        hours, unknown = hours_left(left, stages)
        rows.append((method, *counts, f'{"≥ " if unknown else ""}{hours:.1f}'))
    return rows


def configs_of(
    options: BenchmarkOptions, backbone: BenchmarkBackbone | None
) -> tuple[dict[str, Path], dict[str, str]]:
    """The pretraining config of each method, and why other methods cannot train the backbone."""
    if backbone is None:
        return pretraining_configs(options.backbone), {}
    return methods_for(backbone)


def chosen_methods(
    options: BenchmarkOptions, configs: dict[str, Path], against: dict[str, str]
) -> list[str]:
    """The methods asked for, or all of the backbone that need no other weights.

    Args:
        options: of the comparison.
        configs, against: see :func:`configs_of`.

    Raises:
        ValueError: a method does not exist, or does not go with the backbone.
    """
    possible = [SCRATCH, *configs]
    if options.methods is None:
        return [method for method in possible if method != 'beit']
    for method in options.methods:
        if method in against:
            raise ValueError(f'methods: {method} {against[method]}, not {options.backbone}')
        if method not in possible:
            raise ValueError(
                f'methods must be of {", ".join(possible)} with {options.backbone}, got {method}'
                f'{nearest_name(method, possible)}'
            )
    return list(options.methods)


def notes(
    options: BenchmarkOptions, backbone: BenchmarkBackbone, against: dict[str, str]
) -> list[str]:
    """What is said of a backbone before the start: what it is, and what it does not allow."""
    said = [f'backbone {backbone}']
    if options.methods is None and against:
        reasons = [
            f'{", ".join(m for m in against if against[m] == reason)} ({reason})'
            for reason in dict.fromkeys(against.values())
        ]
        said.append(f'left out: {"; ".join(reasons)}')
    if not backbone.layer_depth and 'finetune' in options.protocols:
        said.append('no layer-wise decay: the backbone does not tell the depth of its parameters')
    return said


def check_images(data_root: Path, backbone: BenchmarkBackbone | None) -> None:
    """Look at the folders, and at an image of each class.

    Raises:
        FileNotFoundError: ``train`` or ``test`` is missing, or a class holds no image.
        ValueError: they have other classes, fewer than two, or images that are not of 32², where
            the backbone is made for 32².
    """
    for part in ('train', 'test'):
        if not (data_root / part).is_dir():
            raise FileNotFoundError(f'{data_root} has no sub-folder {part}')
    names = [[path.name for path in class_folders(data_root, p)] for p in ('train', 'test')]
    if names[0] != names[1] or len(names[0]) < 2:
        differing = ', '.join(sorted(set(names[0]) ^ set(names[1]))[:5])
        raise ValueError(
            f'train and test in {data_root} must have the same class sub-folders, at least two'
            + (f', but only one of them has {differing}' if differing else f', got {names[0]}')
        )
    size = SMALL_SIZE if backbone is None else backbone.network.image_size
    for folder in class_folders(data_root, 'train') + class_folders(data_root, 'test'):
        file = find_images(folder)[0][0]
        if size != SMALL_SIZE:  # cropped to any other size
            continue
        with Image.open(file) as image:
            if image.size != (size, size):
                raise ValueError(
                    f'images must be of {size} × {size} pixels, for which the backbone '
                    f'is made, but {file} has {image.width} × {image.height}: name another '
                    'backbone, or an image_size to which they are cropped'
                )


def command_line(options: BenchmarkOptions) -> list[str]:
    """The arguments of ``mmebm benchmark`` that give these options."""
    words = [str(options.data_root), '--out', str(options.out)]
    for name, value in vars(options).items():
        if name in ('data_root', 'out') or value == getattr(BenchmarkOptions, name):
            continue
        values = value if isinstance(value, list | tuple) else [value]
        words += [f'--{name.replace("_", "-")}', *map(str, values)]
    return words


def _train_on(config: Config, images: Path) -> None:
    """Train on a list of images, in batches of no more than there are."""
    loader = config.train_dataloader
    loader.dataset.ann_file = str(images)
    loader.batch_size = min(loader.batch_size, _lines(images))


def _lines(file: Path) -> int:
    return len(file.read_text().splitlines())
