"""Pretrain a backbone on a folder of images: look, try, plan, write, train, export.

One process does this. Of several, which torchrun starts, the first one plans, writes and exports;
the others wait for its plan, which is a config, and train along.
"""

import contextlib
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
from ..engine.hooks import GracefulStopHook, ProgressHook
from ..engine.optim_wrapper import default_dtype
from ..engine.runner import close_process_group, runner_of
from ..report.page import add_loading_lines
from ..utils.checkpoint import load_checkpoint_safely
from ..utils.device import usable_cores
from .images import Images, look_grey, split_images
from .network import GIVEN, Network, find_network, refused, register_module
from .options import LENGTHS, PretrainOptions
from .plan import HELD_OUT_LIST, TRAIN_LIST, Length, config_of, length_of, write_lists
from .trial import Speed, largest_batch, measure

CHECKPOINT = 'checkpoint.pth'  # of a finished run
OPTIONS = 'options.json'  # written last: an out folder that has it can be gone on with
LOCK = '.lock'  # of the process that trains in an out folder
WRITTEN_FIRST = {LOCK, 'config.py', TRAIN_LIST, HELD_OUT_LIST}
EPOCHS = 100  # if no length is given
BATCH_SIZES = dict(cuda=256, cpu=32)  # at most: the paper's; on a CPU more steps are worth more
LEARNING_RATE, REFERENCE_BATCH = 1e-3, 32  # linear up to this batch, then constant
TRIAL_SECONDS = 3.0  # of timed iterations; with hours a fortieth of them, at most a minute
WORTH_COMPILING = 3600.0  # seconds of training on a GPU, from which on the step is compiled
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
        data, backbone, out, start: see :class:`~mmebm.pretraining.options.PretrainOptions`. The
            backbone may also be a module, which starts with its own weights. Where all images lie
            in class sub-folders, kNN accuracy is measured too.
        say: prints a line.
        **options: ``hours``, ``epochs`` or ``iterations``, and the other fields of that class.

    Returns:
        The files that were written; None in all but the first of several processes.

    Raises:
        TypeError, ValueError, FileNotFoundError: an option, the data or the backbone cannot be
            used; says why. Nothing was written.
        MemoryError: not even one image fits in memory.
    """

    def absolute(path: str | Path) -> str:
        return str(Path(path).expanduser().absolute())

    if isinstance(backbone, nn.Module):
        if start is not None:
            raise ValueError('start: not allowed with a module as backbone, which has its weights')
        backbone = register_module(backbone)
        say(f'backbone    {backbone}: config.py cannot rebuild it, it exists only in this process')
    asked = PretrainOptions(
        data=list(map(absolute, [data] if isinstance(data, str | Path) else data)),
        backbone=str(backbone),
        out=absolute(out),
        start=None if start is None else absolute(start),
        **options,
    )
    out, together = Path(asked.out), distributed.is_torchelastic_launched()
    leads = not together or os.environ['RANK'] == '0'
    processes = int(os.environ['WORLD_SIZE']) if together else 1
    record = json.loads(json.dumps(asdict(asked) | dict(out=None, processes=processes)))
    changed = changed_options(out, record) if leads else {}
    plan = make_plan(asked, processes, say) if changed is None else None
    with locked(out) if leads else contextlib.nullcontext():
        if plan is not None:
            write_lists(out, plan[0])
        if plan is not None or changed:
            config = plan[1] if plan else longer(out, asked, processes, say)
            (out / 'config.py').write_text(config.pretty_text, encoding='utf-8')
            (out / OPTIONS).write_text(json.dumps(record, indent=1), encoding='utf-8')
        if together:
            join_others()
        config, is_done = Config.fromfile(out / 'config.py'), (out / CHECKPOINT).is_file()
        learnt = f'already finished: {out}' if is_done else train(config, out)
        close_process_group()
        return finish(config, out, say, learnt) if leads else None


def make_plan(asked: PretrainOptions, processes: int, say: Say) -> tuple[Images, Config]:
    """Look at images and backbone, choose what was not asked for, and plan. Writes nothing."""
    began = time.perf_counter()
    MMLogger.get_instance('mmebm-trial', log_level='ERROR')  # what is built here logs each tensor
    images = split_images(asked.data, asked.held_out, asked.seed)
    held_out = f'{len(images.held_out):,} held out'
    say('; '.join([f'images      {len(images.train):,} to train on', held_out, *images.notes]))
    network = find_network(asked)
    say(f'backbone    {network}')
    if asked.energy == 'restoration':
        seen = look_grey(images)
        images = images._replace(grey=bool(seen) or network.image_channels == 1)
        if images.grey and asked.corruption == 'colorization':
            raise ValueError('corruption colorization changes nothing: the images are grey')
        if images.grey and asked.corruption == 'mixed':
            why = f'{seen} images looked at are grey' if seen else 'the backbone sees one channel'
            say(f'no colour   {why}: colorization is left out')
    if asked.start is not None:
        say(f'start       {load_backbone(MODELS.build(network.config), asked.start)}')
    chosen, speed = choose(asked, images, network, processes)
    spent = time.perf_counter() - began
    speed = Speed(speed.iteration, speed.validation / processes, spent + speed.start)
    iterations = None if asked.hours else updates(chosen, len(images.train), processes)
    length = length_of(speed, iterations, asked.hours and asked.hours * 3600)
    say(
        f'chosen      batch {chosen.batch_size} × {processes}, learning rate '
        f'{chosen.learning_rate:.3g}, {chosen.precision}, '
        f'{"" if chosen.compile_step else "not "}compiled, workers {chosen.workers}'
    )
    minutes = (speed.start + length.iterations * speed.iteration) / 60
    epochs = length.iterations * chosen.batch_size * processes / len(images.train)
    say(f'length      {length.iterations:,} iterations, {epochs:.1f} epochs, {minutes:.1f} min\n')
    return images, config_of(images, network, chosen, length, processes, spent)


def choose(
    asked: PretrainOptions, images: Images, network: Network, processes: int
) -> tuple[PretrainOptions, Speed]:
    """Choose what was not asked for, by rules and by trying a few iterations."""
    device = get_device()
    workers = min(8, max(1, (usable_cores() - 1) // processes))
    most = min(BATCH_SIZES.get(device, 256), 1 << len(images.train).bit_length() - 1)
    chosen = replace(
        asked,
        batch_size=asked.batch_size or most,
        learning_rate=asked.learning_rate or LEARNING_RATE,
        precision=asked.precision or default_dtype(device),
        workers=workers if asked.workers is None else asked.workers,
        compile_step=bool(asked.compile_step),
    )
    seconds = TRIAL_SECONDS if asked.hours is None else min(60.0, asked.hours * 3600 / 40)
    with TemporaryDirectory() as folder, quiet():
        draft = config_of(images, network, replace(chosen, out=folder), Length(1, 1, 1, 1))
        write_lists(Path(folder), images)
        try:
            batch, speed = largest_batch(draft, chosen.batch_size, seconds, not asked.batch_size)
            chosen = replace(chosen, batch_size=batch)
            needed = updates(chosen, len(images.train), processes) * speed.iteration
            needed = asked.hours * 3600 if asked.hours else needed
            if asked.compile_step is None and device == 'cuda' and needed >= WORTH_COMPILING:
                chosen, draft.model.compile_step = replace(chosen, compile_step=True), True
                speed = measure(draft, batch, seconds)
        except ValueError as error:
            raise refused(network.name, network.image_size, error) from error
    rate = LEARNING_RATE * min(1.0, batch * processes / REFERENCE_BATCH)
    return replace(chosen, learning_rate=asked.learning_rate or rate), speed


def updates(options: PretrainOptions, images: int, processes: int) -> int:
    """The iterations of a run whose length is not given in hours."""
    wanted = (options.epochs or EPOCHS) * images / (options.batch_size * processes)
    return options.iterations or max(1, round(wanted))


def longer(out: Path, asked: PretrainOptions, processes: int, say: Say) -> Config:
    """Make the finished run in ``out`` an unfinished one of the length that is asked for.

    Weights, α and the optimizer go on; the learning rate begins and falls once more. The config
    repeats the whole run. ValueError if it is no longer than before.
    """
    config, saved = Config.fromfile(out / 'config.py'), load_checkpoint_safely(out / CHECKPOINT)
    done, rounds, seconds = (saved['meta'][key] for key in ('iter', 'epoch', 'report_seconds'))
    images = len((out / TRAIN_LIST).read_text('utf-8').splitlines())
    asked = replace(asked, batch_size=config.train_dataloader.batch_size)
    wanted = updates(asked, images, processes)
    wanted = done * asked.hours * 3600 / seconds if asked.hours else wanted
    more = round(wanted / done * rounds) - rounds
    if more < 1:
        raise ValueError(f'{out} holds {done:,} finished iterations, {wanted:,.0f} are no more')
    end, optimizer = done + more * done // rounds, saved['optimizer']
    schedule = dict(type='CosineRestartLR', periods=[end - done], begin=done, end=end)
    config.param_scheduler.append(dict(**schedule, eta_min=0, by_epoch=False))
    config.train_cfg.max_epochs = rounds + more
    next(h for h in config.custom_hooks if h.type == 'ReportHook').hours = asked.hours
    for group in (*optimizer['param_groups'], optimizer['base_param_settings']):
        group['lr'] = group['initial_lr']
    saved['param_schedulers'].append(dict(_global_step=done, last_step=0))
    torch.save(saved, out / f'epoch_{rounds}.pth')
    (out / CHECKPOINT).unlink()
    say(f'longer      {done:,} iterations, {end - done:,} more from the full learning rate on\n')
    return config


def changed_options(out: Path, record: dict[str, Any]) -> dict[str, Any] | None:
    """The options that differ from those of the run in ``out``; None if there is no run.

    ValueError if they are more than the length of a finished run, or there is something else.
    """
    if not (out / OPTIONS).is_file():  # none, or one that ended while these files were written
        if out.exists() and {path.name for path in out.iterdir()} - WRITTEN_FIRST:
            raise ValueError(f'out {out} holds other files: choose a new folder')
        return None
    before = {field.name: field.default for field in fields(PretrainOptions)}  # of older options
    before |= json.loads((out / OPTIONS).read_text(encoding='utf-8')) | dict(out=None)
    changed = {k: v for k, v in record.items() if v != before[k]}
    if changed and not (changed.keys() <= {*LENGTHS} and (out / CHECKPOINT).is_file()):
        what = '; '.join(f'{k} was {before[k]!r}, is {v!r}' for k, v in changed.items())
        raise ValueError(f'out {out} was started with other options ({what}): choose a new folder')
    return changed


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keep other processes from training in ``out``; ValueError if another one does."""
    out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out / LOCK, timeout=0):
            yield
    except Timeout:
        raise ValueError(f'another process is training in {out}') from None


def join_others() -> None:
    """Wait for the other processes that torchrun has started, to train together with them."""
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.empty_cache()  # of what the trial took
        torch.cuda.set_device(int(os.environ['LOCAL_RANK']))
    distributed.init_process_group('nccl' if gpu else 'gloo', timeout=timedelta(minutes=30))
    distributed.barrier()


def train(config: Config, out: Path) -> str:
    """Train by the config in ``out``, or go on, with a progress line; what it has learnt."""
    # MMEngine names loggers by it and the second: two runs in one second would share a log, also
    # where only the folders above them differ
    config.experiment_name = '-'.join(out.resolve().parts[1:])
    config.load_from, config.resume = None, any(out.glob('epoch_*.pth'))
    config.launcher = 'pytorch' if distributed.is_initialized() else 'none'
    config = Config(config.to_dict(), '# of the last start', '.started.py')  # MMEngine writes that
    with quiet():
        runner = runner_of(config)
    if runner.rank == 0:  # all starts in one file
        log = logging.FileHandler(out / 'log.txt', encoding='utf-8')
        log.setLevel('INFO')  # MMEngine tells of each class
        log.setFormatter(logging.Formatter('%(asctime)s %(levelname)s %(message)s'))
        runner.logger.addHandler(log)
    progress = ProgressHook()
    runner.register_hook(progress, priority='VERY_LOW')
    stop = next(hook for hook in runner.hooks if isinstance(hook, GracefulStopHook))
    try:  # MMEngine prints what it loads
        with contextlib.redirect_stdout(io.StringIO()), contextlib.closing(progress):
            runner.train()  # even after the last iteration: the last validation may be missing
    finally:
        stop.after_train(runner)  # else Ctrl-C would not end the caller after an error
    return runner.message_hub.runtime_info.get('verdict') or ''


def finish(config: Config, out: Path, say: Say, learnt: str) -> PretrainingRun:
    """Name the last checkpoint, drop the others, and write the backbone."""
    checkpoint, report = out / CHECKPOINT, out / 'report.html'
    if not checkpoint.is_file():
        os.replace(out / f'epoch_{config.train_cfg.max_epochs}.pth', checkpoint)
    for old in (*out.glob('epoch_*.pth'), out / 'last_checkpoint'):
        old.unlink(missing_ok=True)
    with quiet():
        backbone, usage = export(checkpoint, config, out)
    add_loading_lines(report, usage)
    backbone.chmod(checkpoint.stat().st_mode)  # safetensors lets only its owner read a file
    lines = ['', learnt, str(backbone), *(f'    {line}' for line in usage), f'report: {report}']
    say('\n'.join(lines))
    return PretrainingRun(*map(str, (backbone, checkpoint, out / 'config.py', report)), usage)


def export(checkpoint: Path, config: Config, out: Path) -> tuple[Path, list[str]]:
    """Write the backbone alone, for timm or MMPretrain; its path and lines that load it."""
    backbone, file = config.model.backbone, out / 'backbone.safetensors'
    if backbone.type == 'TIMMBackbone':
        return file, to_timm_file(checkpoint, file, None, config=config, overwrite=True).usage
    if backbone.type != GIVEN:
        file = out / 'backbone.pth'
        return file, to_mmpretrain_file(checkpoint, file, config, overwrite=True).usage
    tensors = read_backbone_tensors(checkpoint)
    tensors = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    save_file(tensors, file, metadata={'format': 'pt'})
    load = f'network.load_state_dict(safetensors.torch.load_file({str(file)!r}))'
    return file, ['import safetensors.torch', load]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what libraries print while they are built off the terminal; it goes to log files."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
