"""Pretrain a backbone on a folder of images: look, try, plan, write, train, export.

One process does this. Of several, which torchrun starts, the first one plans, writes and exports;
the others wait for its plan, which is a config, and train along.
"""

import contextlib
import gc
import io
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, fields, replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from filelock import FileLock, Timeout  # torch depends on it
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import MMLogger
from mmpretrain.registry import MODELS
from safetensors.torch import save_file
from torch import distributed, nn

from ..backbones.weights import load_backbone, read_backbone_tensors
from ..conversion import to_mmpretrain_file, to_timm_file
from ..engine import runner_of
from ..engine.hooks import ProgressHook
from ..engine.optim_wrapper import default_dtype
from ..utils.checkpoint import newest_sound_checkpoint
from .images import Images, find_images
from .network import GIVEN, Network, find_network, refused, register_module
from .options import PretrainOptions
from .plan import Length, config_of, length_of, write_lists
from .trial import Speed, largest_batch, measure

OPTIONS = 'options.json'  # written last: an out folder that has it can be gone on with
UNFINISHED = '.unfinished'  # while the files of a new run are written
LOCK = '.lock'  # of the process that trains in an out folder
EPOCHS = 100  # if no length is given
BATCH_SIZES = dict(cuda=256, cpu=32)  # at most: the paper's; on a CPU more steps are worth more
LEARNING_RATE, REFERENCE_BATCH = 1e-3, 32  # linear up to this batch, then constant
TRIAL_SECONDS = 3.0  # of timed iterations; with hours a fortieth of them, at most a minute
WORTH_COMPILING = 3600.0  # seconds of training on a GPU, from which on the step is compiled
PATIENCE = timedelta(minutes=30)  # of processes for each other
Say = Callable[[str], None]


class PretrainingRun(NamedTuple):
    """The files of a finished run."""

    backbone: str  # weights alone: .safetensors of a timm network, .pth for MMPretrain
    checkpoint: str  # the whole model, for all tools
    config: str  # repeats the run with tools/train.py
    report: str  # what was learnt, as a page
    usage: list[str]  # lines that load the backbone


def pretrain(
    data: str | Path | Sequence[str | Path],
    backbone: str | Path | nn.Module,
    out: str | Path,
    *,
    start: str | Path | None = None,
    say: Say = print,
    **options: Any,
) -> PretrainingRun | None:
    """Pretrain a backbone by fitting an energy; the same call again goes on where it stopped.

    Args:
        data: folder of images (any depth, no labels), or text file with a path per line; or several
            of these. Where all images lie in class sub-folders, kNN accuracy is measured too.
        backbone: ``timm/NAME``, ``mmpretrain/NAME`` (a model of its index, or a class), or a config
            file with a ``model.backbone``; or a module, which starts with its own weights.
        out: folder for all files of the run: a new one, or that of the same run.
        start: file of weights to start from; None starts at random.
        say: prints a line.
        **options: ``hours``, ``epochs`` or ``iterations``, and the other fields of
            :class:`~mmebm.pretraining.options.PretrainOptions`, which says what each does.

    Returns:
        The files that were written; None in all but the first of several processes.

    Raises:
        TypeError, ValueError, FileNotFoundError: an option, the data or the backbone cannot be
            used; says why. Nothing was written.
        MemoryError: not even one image fits in memory.
    """
    if isinstance(backbone, nn.Module):
        if start is not None:
            raise ValueError('start: not allowed with a module as backbone, which has its weights')
        backbone = register_module(backbone)
        say(f'backbone    {backbone}: config.py cannot rebuild it, it exists only in this process')
    asked = PretrainOptions(
        data=[_absolute(path) for path in ([data] if isinstance(data, str | Path) else data)],
        backbone=str(backbone),
        out=_absolute(out),
        start=None if start is None else _absolute(start),
        **options,
    )
    out, together = Path(asked.out), distributed.is_torchelastic_launched()
    leads = not together or os.environ['RANK'] == '0'
    processes = int(os.environ['WORLD_SIZE']) if together else 1
    plan = None
    if leads and not holds_run(out, asked, processes):
        plan = make_plan(asked, processes, say)
    with locked(out) if leads else contextlib.nullcontext():
        if plan is not None:
            write(out, *plan, options_of(asked, processes))
        if together:
            join_others()
        config = Config.fromfile(out / 'config.py')
        if (out / 'checkpoint.pth').is_file():
            say(f'already finished: {out}')
        else:
            train(config, out, together)
        if together:
            gc.collect()  # the runner is a reference cycle, which keeps the group alive
            distributed.destroy_process_group()  # else gloo's threads may abort the process
        return finish(config, out, say) if leads else None


# Look, try, plan, write -----------------------------------------------------------------------


def make_plan(asked: PretrainOptions, processes: int, say: Say) -> tuple[Images, Config]:
    """Look at images and backbone, choose what was not asked for, and plan. Writes nothing."""
    began = time.perf_counter()
    MMLogger.get_instance('mmebm-trial', log_level='ERROR')  # what is built here logs each tensor
    images = find_images(asked.data, asked.held_out, asked.seed)
    network = find_network(asked.backbone, asked.image_size, asked.keep_batch_norm, asked.energy)
    held_out = f'{len(images.held_out):,} held out'
    say('; '.join([f'images      {len(images.train):,} to train on', held_out, *images.notes]))
    say(
        f'backbone    {network.name}: {network.parameters / 1e6:.1f} million parameters, features '
        f'{network.features} of images of {network.image_size} × {network.image_size}'
        + f', {network.group_norm} batch norms became group norms'
        * (network.group_norm > 0)
    )
    chosen, speed = choose(asked, images, network, processes)
    spent = time.perf_counter() - began
    speed = Speed(speed.iteration, speed.validation / processes, spent + speed.start)
    seconds = None if asked.hours is None else asked.hours * 3600
    length = length_of(speed, None if seconds else updates(chosen, images, processes), seconds)
    say(
        f'chosen      batch {chosen.batch_size} × {processes}, learning rate '
        f'{chosen.learning_rate:.3g}, {chosen.precision}, '
        f'{"" if chosen.compile_step else "not "}compiled, {chosen.workers} workers'
    )
    total, minutes = chosen.batch_size * processes, length.iterations * speed.iteration / 60
    say(
        f'length      {length.iterations:,} iterations, {minutes + speed.start / 60:.0f} min, '
        f'{length.iterations * total / len(images.train):.1f} epochs\n'
    )
    return images, config_of(images, network, chosen, length, processes, spent)


def choose(
    asked: PretrainOptions, images: Images, network: Network, processes: int
) -> tuple[PretrainOptions, Speed]:
    """Choose what was not asked for, by rules and by trying a few iterations."""
    device = get_device()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    workers = min(8, max(1, (cores - 1) // processes)) if asked.workers is None else asked.workers
    most = min(BATCH_SIZES.get(device, 256), 1 << len(images.train).bit_length() - 1)
    batch, rate = asked.batch_size or most, asked.learning_rate or LEARNING_RATE
    precision, compiled = asked.precision or default_dtype(device), bool(asked.compile_step)
    chosen = dict(precision=precision, workers=workers, compile_step=compiled, learning_rate=rate)
    seconds = TRIAL_SECONDS if asked.hours is None else min(60.0, asked.hours * 3600 / 40)
    with TemporaryDirectory() as folder, quiet():
        draft = replace(asked, out=folder, batch_size=batch, **chosen)
        draft = config_of(images, network, draft, Length(1, 1, 1, 1))
        write_lists(Path(folder), images)
        if asked.start is not None:
            load_backbone(MODELS.build(draft.model.backbone), asked.start)
        try:
            batch, speed = largest_batch(draft, batch, seconds, halve=asked.batch_size is None)
            needed = updates(replace(asked, batch_size=batch), images, processes) * speed.iteration
            long = (asked.hours * 3600 if asked.hours else needed) >= WORTH_COMPILING
            if asked.compile_step is None and device == 'cuda' and long:
                chosen['compile_step'] = draft.model.compile_step = True
                speed = measure(draft, batch, seconds)
        except ValueError as error:
            raise refused(network.name, network.image_size, error) from error
    if asked.learning_rate is None:
        chosen['learning_rate'] = rate * min(1.0, batch * processes / REFERENCE_BATCH)
    return replace(asked, batch_size=batch, **chosen), speed


def updates(options: PretrainOptions, images: Images, processes: int) -> int:
    """The iterations of a run whose length is not given in hours."""
    wanted = (options.epochs or EPOCHS) * len(images.train) / (options.batch_size * processes)
    return options.iterations or max(1, round(wanted))


def write(out: Path, images: Images, config: Config, options: dict[str, Any]) -> None:
    """Write the files of a new run."""
    (out / UNFINISHED).touch()
    write_lists(out, images)
    header = f'# python tools/train.py {out / "config.py"} --work-dir {out}-again\n'
    (out / 'config.py').write_text(header + config.pretty_text, encoding='utf-8')
    (out / OPTIONS).write_text(json.dumps(options, indent=1), encoding='utf-8')
    (out / UNFINISHED).unlink()


# The folder of a run --------------------------------------------------------------------------


def options_of(asked: PretrainOptions, processes: int) -> dict[str, Any]:
    """What makes a run, as JSON gives it back."""
    record = {name: value for name, value in asdict(asked).items() if name != 'out'}
    return json.loads(json.dumps(record | dict(processes=processes)))


def holds_run(out: Path, asked: PretrainOptions, processes: int) -> bool:
    """Whether ``out`` holds this very run; ValueError if another one, or something else."""
    there = next(path for path in (out, *out.parents) if path.exists())
    if not there.is_dir():
        raise ValueError(f'out {out}: {there} is a file, but must be a folder')
    unfinished = (out / UNFINISHED).exists()  # ended while the files were written
    if unfinished or not (out / OPTIONS).is_file():
        if not unfinished and there == out and any(path.name != LOCK for path in out.iterdir()):
            raise ValueError(f'out {out} holds other files: choose a new folder')
        return False
    before = json.loads((out / OPTIONS).read_text(encoding='utf-8'))
    before = {field.name: field.default for field in fields(asked)} | before  # of older options
    changed = [
        f'{name} was {before[name]!r}, is {value!r}'
        for name, value in options_of(asked, processes).items()
        if value != before[name]
    ]
    if changed:
        what = '; '.join(changed)
        raise ValueError(f'out {out} was started with other options ({what}): choose a new folder')
    return True


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keep other processes from training in ``out``; ValueError if another one does."""
    out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out / LOCK, timeout=0):
            yield
    except Timeout:
        raise ValueError(f'another process is training in {out}') from None


# Train, export --------------------------------------------------------------------------------


def join_others() -> None:
    """Wait for the other processes that torchrun has started, to train together with them."""
    gpu = torch.cuda.is_available()
    if gpu:
        gc.collect()
        torch.cuda.empty_cache()  # of what the trial took
        torch.cuda.set_device(int(os.environ['LOCAL_RANK']))
    distributed.init_process_group('nccl' if gpu else 'gloo', timeout=PATIENCE)
    distributed.barrier()


def train(config: Config, out: Path, together: bool) -> None:
    """Train by the config in ``out``, or go on, with a line that shows how far it is."""
    # MMEngine names loggers by it and the second: two runs in one second would share a log, also
    # where only the folders above them differ
    config.experiment_name = '-'.join(out.resolve().parts[1:])
    config.load_from, passed_over = newest_sound_checkpoint(out)
    config.resume = config.load_from is not None
    if together:
        config.launcher = 'pytorch'
        config.model_wrapper_cfg = dict(
            type='MMDistributedDataParallel', broadcast_buffers=False, device_ids=None
        )
    with quiet():
        runner = runner_of(config)
    if passed_over:
        runner.logger.warning(f'resuming from {config.load_from}: {"; ".join(passed_over)}')
    if runner.rank == 0:  # all starts in one file
        log = logging.FileHandler(out / 'log.txt', encoding='utf-8')
        log.setFormatter(logging.Formatter('%(asctime)s %(levelname)s %(message)s'))
        runner.logger.addHandler(log)
    progress = ProgressHook()
    runner.register_hook(progress, priority='VERY_LOW')
    try:
        runner.train()  # even after the last iteration: the last validation may be missing
    finally:
        progress.close()


def finish(config: Config, out: Path, say: Say) -> PretrainingRun:
    """Name the last checkpoint, drop the others, and write the backbone."""
    checkpoint = out / 'checkpoint.pth'
    if not checkpoint.is_file():
        os.replace(out / f'epoch_{config.train_cfg.max_epochs}.pth', checkpoint)
    for old in (*out.glob('epoch_*.pth'), out / 'last_checkpoint'):
        old.unlink(missing_ok=True)
    with quiet():
        backbone, usage = export(checkpoint, config, out)
    say('\n'.join([f'\n{backbone}', *(f'    {line}' for line in usage)]))
    say(f'report: {out / "report.html"}')
    files = (backbone, checkpoint, out / 'config.py', out / 'report.html')
    return PretrainingRun(*map(str, files), usage)


def export(checkpoint: Path, config: Config, out: Path) -> tuple[Path, list[str]]:
    """Write the backbone alone, for timm or MMPretrain; its path and lines that load it."""
    backbone, file = config.model.backbone, out / 'backbone.safetensors'
    inner = backbone.get('backbone', backbone)
    if inner.type not in (GIVEN, 'TIMMBackbone'):
        file = out / 'backbone.pth'
        return file, to_mmpretrain_file(checkpoint, file, config, overwrite=True).usage
    if inner is backbone and inner.type == 'TIMMBackbone':
        return file, to_timm_file(checkpoint, file, None, config=config, overwrite=True).usage
    tensors = read_backbone_tensors(checkpoint)
    tensors = {n.removeprefix('timm_model.'): t.contiguous().clone() for n, t in tensors.items()}
    save_file(tensors, file, metadata={'format': 'pt'})
    network = 'network'
    if inner.type == 'TIMMBackbone':
        size = f', img_size={inner.img_size}' if 'img_size' in inner else ''
        network = f'timm.create_model({inner.model_name!r}, num_classes=0{size})'
    build = [] if inner is backbone else [f'network = mmebm.GroupNormBackbone({network})']
    return file, [*build, f'network.load_state_dict(safetensors.torch.load_file({str(file)!r}))']


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what libraries print while they are built off the terminal; it goes to log files."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _absolute(path: str | Path) -> str:
    return str(Path(path).expanduser().absolute())
