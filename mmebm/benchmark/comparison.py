"""Compare pretraining configs on a folder of labelled images, on equal terms."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from math import isnan, nan
from pathlib import Path

import torch
from PIL import Image

from ..datasets import ImageFolder
from ..utils import UserError
from ..utils.device import device_name
from ..utils.tables import markdown_table, write_csv
from ..utils.whole_files import WholeFilesBackend
from .configs import SCRATCH, find_configs, stage_config, write_start
from .measuring import accuracy, frozen_accuracy, write_split
from .options import BenchmarkOptions
from .results import CONTRAST, LAST_LAYER, choose, draw_results, failure, result_table, summarised
from .training import Stage, train


class Benchmark:
    """The training runs and measurements of a comparison, of which it writes the results.

    See :mod:`mmebm.cli.benchmark_command` for how it compares.

    Raises:
        FileNotFoundError: a folder, or its images, are missing.
        ValueError: a method is unknown, or the images do not fit.
    """

    def __init__(self, options: BenchmarkOptions):
        self.options, self.rows, self.out = options, [], Path(options.out).resolve()
        self.methods, finetuning = find_configs(options)
        root = str(Path(options.data_root).resolve())
        read = partial(ImageFolder, root, with_label=True, pipeline=[])
        train_images, test_images = read(data_prefix='train'), read(data_prefix='test')
        classes = train_images.CLASSES
        if classes != test_images.CLASSES or len(classes) < 2:
            found = f'got {classes} and {test_images.CLASSES}'
            raise ValueError(f'train and test need the same classes, two or more, {found}')
        with Image.open(train_images.get_data_info(0)['img_path']) as first:
            if 'small32' in finetuning.name and first.size != (32, 32):
                raise ValueError(f'{finetuning.name} takes images of 32 × 32, got {first.size}')
        self.files = write_split(train_images, options)
        self.classifier = partial(
            stage_config, finetuning, options, options.epochs, self.files['labelled'], len(classes)
        )
        gpu = torch.cuda.is_available()
        self.device = device_name('cuda' if gpu else 'cpu')
        self.cost = ('pretraining_s', 'GPU hours') if gpu else ('pretraining_cpu_s', 'CPU hours')

    def run(self, say: Callable[[str], object] = print) -> str:
        """Train and measure all that is left; return the table of the test images as Markdown.

        UserError if no method could be tested, or a run was ended from outside.
        """
        self.say, options, chosen = say, self.options, {}
        lengths = options.pretraining_epochs
        grid = [(lr, decay) for lr in options.lrs for decay in options.layer_decays]
        for method in self.methods:
            rows = []
            for lr in [''] if method == SCRATCH else options.pretraining_lrs:
                trial = self.trial(method, options.seeds[0], lengths[0], lr, grid, 'val')
                rows += self.measured(trial)
            chosen[method] = choose(rows, options.protocols)
            best = [f'{p} {row["accuracy"]:.1f} %' for p, row in chosen[method].items()]
            say(f'{method}, validation: {", ".join(best) or "every run failed"}')
        for method, best in chosen.items():  # test images only after all choices
            for epochs in lengths[:1] if method == SCRATCH else lengths:
                self.measured(self.tests(method, epochs, best) if best else [])
        if all(row['split'] == 'val' or row['failed'] for row in self.rows):
            failed = next(failure(row) for row in self.rows if row['failed'])
            raise UserError(f'no method could be tested. {failed} in {self.out}')
        figure = draw_results({'': summarised(self.rows, self.cost[0])}, self.cost[1])
        figure.savefig(self.out / 'results.png')
        return self.report()

    def measured(self, rows: Iterable[dict]) -> list[dict]:
        """The rows; the results are written after each of them."""
        found = []
        for row in rows:
            found.append(row)
            self.rows.append(row)
            self.report()
            if row['failed']:
                self.say(failure(row))
        return found

    def trial(
        self, method: str, seed: int, epochs: int, lr: float | str, grid: Sequence, split: str
    ) -> Iterator[dict]:
        """Pretrain, finetune with each learning rate and decay of the grid, measure every layer."""
        start = self.pretrain(method, seed, epochs, lr)
        if start.failure:
            yield self.row(start, split, 'pretraining', nan)
            return
        for values in grid if 'finetune' in self.options.protocols else []:
            yield self.finetune(start, *values, split)
        protocols = [p for p in ('probe', 'knn') if p in self.options.protocols]
        protocols += [CONTRAST] if protocols else []
        if protocols:
            found = remembered(
                start.folder.with_name(f'{start.folder.name}_frozen_{split}.json'),
                lambda: frozen_accuracy(self.classifier(), start.checkpoint, split, self.files),
            )
        for protocol in protocols:
            for layer, value in enumerate(found[protocol], 1):
                yield self.row(start, split, protocol, value, layer=layer)

    def tests(self, method: str, epochs: int, chosen: dict[str, dict]) -> Iterator[dict]:
        """Measure every seed on the test images, with the chosen values.

        Probe and kNN are of the layer that is best on the validation split at this length, with the
        first seed.
        """
        lr = next(iter(chosen.values()))['pretraining_lr']
        grid = [(row['lr'], row['layer_decay']) for row in chosen.values() if row['lr']]
        if method != SCRATCH and epochs != self.options.pretraining_epochs[0]:
            val = list(self.trial(method, self.options.seeds[0], epochs, lr, [], 'val'))
            chosen = choose(val, self.options.protocols)
            yield from val
        layers = [(protocol, row['layer']) for protocol, row in chosen.items()]
        for seed in self.options.seeds:
            for row in (rows := list(self.trial(method, seed, epochs, lr, grid, 'test'))):
                if not row['layer'] or (row['protocol'], row['layer']) in layers:
                    yield row
            for protocol, name in (('probe', LAST_LAYER), (CONTRAST, CONTRAST)):
                found = [row for row in rows if row['protocol'] == protocol]
                yield from (dict(row, protocol=name) for row in found[-1:])

    def pretrain(self, method: str, seed: int, epochs: int, lr: float | str) -> Stage:
        """Train a config from the initial weights of this seed; scratch is these weights."""
        start = Stage(SCRATCH, seed, self.out / SCRATCH / f'seed{seed}' / 'start')
        if not start.checkpoint.exists():
            write_start(self.classifier(), seed, start.checkpoint)
        if method == SCRATCH:
            return start
        folder = self.out / method / f'seed{seed}' / f'pretraining_{epochs}e_lr{lr:g}'
        values = dict(seed=seed, lr=lr, start=start.checkpoint)
        images = self.files['unlabelled']
        config = stage_config(self.methods[method], self.options, epochs, images, **values)
        return train(config, Stage(method, seed, folder, epochs, lr), self.say)

    def finetune(self, start: Stage, lr: float, decay: float, split: str) -> dict:
        """Finetune and measure; return the row, also if it fails."""
        epochs = self.options.epochs
        name = f'{start.folder.name}_finetune_{epochs}e_lr{lr:g}_decay{decay:g}'
        stage = Stage(start.method, start.seed, start.folder.with_name(name), epochs, lr)
        values = dict(seed=start.seed, lr=lr, layer_decay=decay)
        config = self.classifier(start=start.checkpoint, **values)
        found = [nan]
        if not train(config, stage, self.say).failure:
            found = remembered(
                stage.folder / f'{split}.json',
                lambda: [accuracy(config, stage.checkpoint, split, self.files)],
            )
        options = dict(epochs=epochs, lr=lr, layer_decay=decay)
        return self.row(start, split, 'finetune', found[0], stage, **options)

    def row(
        self, start: Stage, split: str, protocol: str, value: float,
        stage: Stage | None = None, **options,
    ) -> dict:  # fmt: skip
        """A row of results.csv; ``value`` is NaN if a run has failed, or the features have."""
        last, failed = stage or start, 'features not finite' if isnan(value) else ''
        if last.failure:
            failed = f'{last.failure}, see {last.folder.relative_to(self.out)}/output.txt'
        cost, spent = start.seconds, stage.seconds if stage else (0.0, 0.0)
        return dict(
            backbone=Path(self.options.backbone).stem,
            method=start.method,
            seed=start.seed,
            split=split,
            protocol=protocol,
            accuracy=round(value, 3),
            pretraining_epochs=start.epochs,
            pretraining_lr=start.lr,
            **(dict.fromkeys(('epochs', 'lr', 'layer_decay', 'layer'), '') | options),
            pretraining_cpu_s=cost[0],
            pretraining_s=cost[1],
            evaluation_cpu_s=spent[0],
            evaluation_s=spent[1],
            device=self.device,
            failed=failed,
        )

    def report(self) -> str:
        """Write the results so far; return results.md."""
        write_csv(self.rows, self.out / 'results.csv')
        results = summarised(self.rows, self.cost[0])
        lines = [markdown_table(result_table(results, self.cost[1])), '']
        lines += dict.fromkeys(f'- failed: {failure(row)}' for row in self.rows if row['failed'])
        table = '\n'.join(lines).strip()
        (self.out / 'results.md').write_text(f'{table}\n', encoding='utf-8')
        return table


def remembered(file: Path, measure: Callable[[], object]) -> object:
    """The result of ``measure()``, read from a file if it was measured before."""
    if not file.exists():
        WholeFilesBackend().put(json.dumps(measure()).encode(), file)
    return json.loads(file.read_text('utf-8'))
