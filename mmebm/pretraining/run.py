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
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
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
from torch import Tensor, distributed, nn

from ..backbones.weights import load_backbone, read_backbone_tensors
from ..conversion import to_mmpretrain_file, to_timm_file
from ..engine import ProgressHook, runner_of
from ..engine.optim_wrapper import default_dtype
from ..utils.checkpoint import newest_sound_checkpoint
from . import network as networks
from .images import Images, find_images
from .network import Network, find_network
from .options import PretrainOptions
from .plan import HELD_OUT_LIST, TRAIN_LIST, Length, config_of, length_of
from .trial import Speed, largest_batch, measure

OPTIONS = 'options.json'  # written last: an out folder that has it can be gone on with
UNFINISHED = '.unfinished'  # while the files of a new run are written
LOCK = '.lock'  # of the process that trains in an out folder
START = 'start.safetensors'  # the weights that a run starts from, if it was given some
EPOCHS = 100  # if no length is given
BATCH_SIZES = dict(cuda=256, cpu=32)  # at most: the paper's; on a CPU more steps are worth more
LEARNING_RATE, REFERENCE_BATCH = 1e-3, 32  # linear up to this batch, then constant
TRIAL_SECONDS = 3.0  # of timed iterations; with hours a fortieth of them, at most a minute
WORTH_COMPILING = 3600.0  # seconds of training on a GPU, from which on the step is compiled
STATISTICS = ('running_mean', 'running_var', 'num_batches_tracked')
KEPT_CHECKPOINTS = 3  # two, and one that is being written
PATIENCE = timedelta(minutes=30)  # of processes for each other
Say = Callable[[str], None]


@dataclass(frozen=True)
class PretrainingRun:
    """The files of a finished run.

    Attributes:
        backbone: weights alone: ``.safetensors`` of a timm network, ``.pth`` for MMPretrain.
        checkpoint: the whole model, for all tools.
        config: repeats the run with ``tools/train.py``.
        report: what was learnt, as a page.
        usage: lines that load the backbone.
    """

    backbone: str
    checkpoint: str
    config: str
    report: str
    usage: list[str]


class Plan(NamedTuple):
    """What a new run writes into its folder."""

    images: Images
    config: Config
    start: dict[str, Tensor] | None  # weights


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
        start: weights to start from; None starts at random.
        say: prints a line.
        **options: ``hours``, ``epochs`` or ``iterations``, and the other fields of
            :class:`~mmebm.pretraining.options.PretrainOptions`, which says what each does.

    Returns:
        The files that were written; None in all but the first of several processes.

    Raises:
        TypeError, ValueError, FileNotFoundError: an option, the data or the backbone cannot be
            used; says why. Nothing was written.
        MemoryError: not even one image fits in memory.
        OSError: the disk has no room.
    """
    if isinstance(backbone, nn.Module):
        if start is not None:
            raise ValueError('start: a module as backbone starts with its own weights')
        backbone = networks.register_module(backbone)
        say(f'backbone    {backbone}: config.py cannot build it, only this process can')
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
    is_new = leads and not holds_run(out, asked, processes)
    plan = make_plan(asked, processes, say) if is_new else None
    with locked(out) if leads else contextlib.nullcontext():
        if plan is not None:
            write(plan, asked, processes)
        if together:
            join_others()
        config, checkpoint = Config.fromfile(out / 'config.py'), out / 'checkpoint.pth'
        if checkpoint.is_file():
            say(f'{out}: this run is finished')
        else:
            train(config, out, together, say)
        if together:
            gc.collect()  # the runner is a reference cycle, which keeps the group alive
            distributed.destroy_process_group()  # else gloo's threads may abort the process
        return finish(config, out, say) if leads else None


# Look, try, plan, write -----------------------------------------------------------------------


def make_plan(asked: PretrainOptions, processes: int, say: Say) -> Plan:
    """Look at images and backbone, and choose what was not asked for. Writes nothing."""
    began, out = time.perf_counter(), Path(asked.out)
    MMLogger.get_instance('mmebm-trial', log_level='ERROR')  # what is built here logs each tensor
    images = find_images(asked.data, asked.held_out, asked.seed)
    network = find_network(asked.backbone, asked.image_size, asked.keep_batch_norm)
    start = starting_weights(network, asked.start)
    say(
        f'backbone    {network.name}: {network.parameters / 1e6:.1f} million parameters, features '
        f'{network.features} of images of {network.image_size} × {network.image_size}'
    )
    if network.group_norm:
        say(
            f'norm        {network.group_norm} batch norms replaced by group norms, with which the '
            'energy of an image does not depend on its batch (--keep-batch-norm)'
        )
    count = f'{len(images.train):,} to train on, {len(images.held_out):,} held out'
    classes = f'kNN accuracy over {len(images.classes)} classes' if images.classes else ''
    say(f'images      {"; ".join(filter(None, [count, classes, *images.notes]))}')
    check_disk(out, network.parameters)
    chosen, speed = choose(asked, images, network, start, processes)
    spent = time.perf_counter() - began
    speed = Speed(speed.iteration, speed.validation / processes, spent + speed.start)
    seconds = None if asked.hours is None else asked.hours * 3600
    length = length_of(speed, None if seconds else updates(chosen, images, processes), seconds)
    total = chosen.batch_size * processes
    say(
        f'chosen      batch {total}, learning rate {chosen.learning_rate:.3g}, {chosen.precision}, '
        f'{"" if chosen.compile_step else "not "}compiled, {chosen.workers} workers each of '
        f'{processes} process{"es" if processes > 1 else ""}'
    )
    minutes = (speed.start + length.iterations * speed.iteration) / 60
    say(
        f'length      {length.iterations:,} iterations, '
        f'{length.iterations * total / len(images.train):.1f} epochs, about {minutes:.0f} min at '
        f'{total / speed.iteration:.0f} images/s\n'
    )
    config = config_of(images, network, chosen, length, processes, spent)
    return Plan(images, config, start)


def choose(
    asked: PretrainOptions,
    images: Images,
    network: Network,
    start: Mapping[str, Tensor] | None,
    processes: int,
) -> tuple[PretrainOptions, Speed]:
    """Choose what was not asked for, by rules and by trying a few iterations."""
    device = get_device()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    workers = min(8, max(1, (cores - 1) // processes)) if asked.workers is None else asked.workers
    most = min(BATCH_SIZES.get(device, 256), 1 << len(images.train).bit_length() - 1)
    chosen = replace(
        asked,
        start=None if start is None else str(Path(asked.out, START)),
        batch_size=asked.batch_size or most,
        learning_rate=asked.learning_rate or LEARNING_RATE,
        precision=asked.precision or default_dtype(device),
        workers=workers,
        compile_step=bool(asked.compile_step),
    )
    seconds = TRIAL_SECONDS if asked.hours is None else min(60.0, asked.hours * 3600 / 40)
    with TemporaryDirectory() as folder, quiet():
        draft = replace(chosen, out=folder)
        draft = config_of(images, network, draft, Length(1, 1, 1, 1))
        write_lists(Path(folder), images)
        if start is not None:
            save_file(start, Path(folder, START))
            load_backbone(MODELS.build(draft.model.backbone), Path(folder, START))
        try:
            halve = asked.batch_size is None
            batch, speed = largest_batch(draft, chosen.batch_size, seconds, halve)
            chosen = replace(chosen, batch_size=batch)
            length = (
                asked.hours * 3600
                if asked.hours
                else speed.iteration * updates(chosen, images, processes)
            )
            if asked.compile_step is None and device == 'cuda' and length >= WORTH_COMPILING:
                chosen, draft.model.compile_step = replace(chosen, compile_step=True), True
                speed = measure(draft, batch, seconds)
        except ValueError as error:
            raise networks.refused(network.name, network.image_size, error) from error
    rate = LEARNING_RATE * min(1.0, batch * processes / REFERENCE_BATCH)
    return replace(chosen, learning_rate=asked.learning_rate or rate), speed


def updates(options: PretrainOptions, images: Images, processes: int) -> int:
    """The iterations of a run whose length is not given in hours."""
    wanted = (options.epochs or EPOCHS) * len(images.train) / (options.batch_size * processes)
    return options.iterations or max(1, round(wanted))


def starting_weights(network: Network, start: str | None) -> dict[str, Tensor] | None:
    """The tensors of a given module, or of a file of timm, MMPretrain or mmebm; None for neither.

    Returns:
        Named as in the network.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read, or holds no tensors.
    """
    given = network.kind == networks.GIVEN
    if start is None and not given:
        return None
    tensors = networks.given_module().state_dict() if given else read_backbone_tensors(start)
    if network.kind == 'TIMMBackbone' and not any(n.startswith('timm_model.') for n in tensors):
        tensors = {f'timm_model.{name}': tensor for name, tensor in tensors.items()}
    if network.group_norm:  # it keeps the weights of a batch norm and has no statistics
        tensors = {n: t for n, t in tensors.items() if n.split('.')[-1] not in STATISTICS}
    return _separate(tensors)


def write(plan: Plan, asked: PretrainOptions, processes: int) -> None:
    """Write the files of a new run."""
    out = Path(asked.out)
    (out / UNFINISHED).touch()
    write_lists(out, plan.images)
    if plan.start is not None:
        save_file(plan.start, out / START)
    header = (
        f'"""Pretraining of {asked.backbone} on {len(plan.images.train)} images.\n\n'
        f'python tools/train.py {out / "config.py"} --work-dir {out}-again\n"""\n\n'
    )
    (out / 'config.py').write_text(header + plan.config.pretty_text, encoding='utf-8')
    (out / OPTIONS).write_text(json.dumps(_record(asked, processes), indent=1), encoding='utf-8')
    (out / UNFINISHED).unlink()


def write_lists(folder: Path, images: Images) -> None:
    """Write the lists of images that the config names."""
    kept = images.held_out
    if images.classes:
        kept = [f'{name} {label}' for name, label in zip(kept, images.labels, strict=True)]
    for file, names in ((TRAIN_LIST, images.train), (HELD_OUT_LIST, kept)):
        (folder / file).write_text(''.join(f'{name}\n' for name in names), encoding='utf-8')


# The folder of a run --------------------------------------------------------------------------


def holds_run(out: Path, asked: PretrainOptions, processes: int) -> bool:
    """Whether ``out`` holds this very run.

    Raises:
        ValueError: it holds another one, or something else.
    """
    there = next(path for path in (out, *out.parents) if path.exists())
    if not there.is_dir():
        raise ValueError(f'out {out}: {there} is a file, but must be a folder')
    unfinished = (out / UNFINISHED).exists()  # ended while the files were written
    if unfinished or not (out / OPTIONS).is_file():
        if not unfinished and there == out and any(path.name != LOCK for path in out.iterdir()):
            raise ValueError(f'out {out} holds other files: give a new folder')
        return False
    before = json.loads((out / OPTIONS).read_text(encoding='utf-8'))
    before = {field.name: field.default for field in fields(asked)} | before  # of older options
    changed = [
        f'{name} was {before[name]!r}, is {value!r}'
        for name, value in _record(asked, processes).items()
        if value != before[name]
    ]
    if changed:
        what = '; '.join(changed)
        raise ValueError(f'out {out} holds a run with other options ({what}): give a new folder')
    return True


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keep other processes from training in ``out``.

    Raises:
        ValueError: another one does.
    """
    out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out / LOCK, timeout=0):
            yield
    except Timeout:
        raise ValueError(f'another process is training in {out}') from None


def check_disk(out: Path, parameters: int) -> None:
    """Check that the checkpoints fit: weights and AdamW's two moments, of 4 bytes each.

    Raises:
        OSError: they do not; says how much is missing.
    """
    there = next(path for path in (out, *out.parents) if path.is_dir())
    missing = 12 * parameters * KEPT_CHECKPOINTS - shutil.disk_usage(there).free
    if missing > 0:
        raise OSError(f'out {out}: {missing / 1e6:,.0f} MB are missing for its checkpoints')


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


def train(config: Config, out: Path, together: bool, say: Say) -> None:
    """Train by the config in ``out``, or go on, with a line that shows how far it is."""
    # MMEngine names loggers by it and the second: two runs in one second would share a log, also
    # where only the folders above them differ
    config.experiment_name = '-'.join(out.resolve().parts[1:])
    found = newest_sound_checkpoint(out)
    if found.path is not None:
        say('; '.join([f'going on from {found.path}', *found.passed_over]))
    config.load_from, config.resume = found.path, found.path is not None
    if together:
        config.launcher = 'pytorch'
        config.model_wrapper_cfg = dict(
            type='MMDistributedDataParallel', broadcast_buffers=False, device_ids=None
        )
    with quiet():
        runner = runner_of(config)
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
    say(f'{out / "report.html"}: what was learnt')
    files = (backbone, checkpoint, out / 'config.py', out / 'report.html')
    return PretrainingRun(*map(str, files), usage)


def export(checkpoint: Path, config: Config, out: Path) -> tuple[Path, list[str]]:
    """Write the backbone alone, for timm or MMPretrain; its path and lines that load it."""
    backbone, file = config.model.backbone, out / 'backbone.safetensors'
    inner = backbone.get('backbone', backbone)
    if inner.type not in (networks.GIVEN, 'TIMMBackbone'):
        file = out / 'backbone.pth'
        return file, to_mmpretrain_file(checkpoint, file, config, overwrite=True).usage
    if inner is backbone and inner.type == 'TIMMBackbone':
        return file, to_timm_file(checkpoint, file, None, config=config, overwrite=True).usage
    tensors = read_backbone_tensors(checkpoint)
    tensors = _separate({n.removeprefix('timm_model.'): t for n, t in tensors.items()})
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


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies that share no memory, as safetensors wants them."""
    return {name: tensor.contiguous().clone() for name, tensor in tensors.items()}


def _absolute(path: str | Path) -> str:
    return str(Path(path).expanduser().absolute())


def _record(asked: PretrainOptions, processes: int) -> dict[str, Any]:
    """What makes a run, as JSON gives it back."""
    record = {name: value for name, value in asdict(asked).items() if name != 'out'}
    return json.loads(json.dumps(record | dict(processes=processes)))
