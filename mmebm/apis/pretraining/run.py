"""Pretrain a backbone on a folder of images: look, choose, train, export."""

import contextlib
import inspect
import io
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from filelock import FileLock, Timeout  # torch depends on it
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from mmpretrain.registry import MODELS
from safetensors.torch import save_file
from torch import Tensor, nn

from ...backbones.weights import load_backbone, read_backbone_tensors
from ...conversion import timm_call, to_mmpretrain_file, to_timm_file
from ...engine import runner_of
from ...engine.hooks import ProgressHook
from ...engine.optim_wrapper import default_dtype
from ...utils import checked_bool, checked_int, checked_number
from ...utils.checkpoint import newest_sound_checkpoint
from . import hub
from . import images as image_lists
from . import network as networks
from .inpainting import MASKED_SHARE, check_inpainting
from .plan import (
    BATCH_SIZES,
    CORRUPTIONS,
    ENERGIES,
    LEARNING_RATE,
    REFERENCE_BATCH,
    Choices,
    Speed,
    config_of,
    length_of,
)
from .trial import WORTH_COMPILING, choose

OPTIONS = 'options.json'  # written last: an out folder that has it can be gone on with
EPOCHS = 100  # if no length is given
TRIAL_SECONDS = 3.0  # of timed iterations; with hours a fortieth of them, at most a minute
UNFINISHED = '.unfinished'  # while the files of a new run are written
START = 'start.safetensors'  # the weights that a run starts from, if it was given some
_STATISTICS = ('running_mean', 'running_var', 'num_batches_tracked')
KEPT_CHECKPOINTS = 3  # two, and one that is being written
LOCK = '.lock'  # of the process that trains in an out folder
OURS = (LOCK, hub.FOLDER)  # may be in an out folder without a run
LEAD = 'first_machine_trains'  # while it does, or waits for the others
PATIENCE, LOOK_AGAIN = 3600.0, 1.0  # seconds: for the first machine, and between looks
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


def pretrain(
    data: str | Path | Sequence[str | Path] | Any,
    backbone: str | Path | nn.Module,
    out: str | Path,
    *,
    hours: float | None = None,
    epochs: int | None = None,
    iterations: int | None = None,
    start: str | Path | None = None,
    image_size: int | None = None,
    energy: str = 'restoration',
    corruption: str | None = None,
    num_steps: int = 1,
    keep_batch_norm: bool = False,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    precision: str | None = None,
    workers: int | None = None,
    compile_step: bool | None = None,
    held_out: int | None = None,
    seed: int = 0,
    processes: int = 1,
    say: Say = print,
    train: Callable[[Config], None] | None = None,
) -> PretrainingRun:
    """Pretrain a backbone by fitting an energy; the same call again goes on where it stopped.

    Args:
        data: folder of images (any depth, no labels), or text file with a path per line; or
            ``hf:NAME``, ``hf:NAME:SPLIT`` or a ``datasets.Dataset`` of Hugging Face, whose images
            are written into ``out``; or several of these. Where all images lie in class
            sub-folders, kNN accuracy is measured too.
        backbone: ``timm/NAME``, ``mmpretrain/NAME`` (a model of its index, or a class), or a config
            file with a ``model.backbone``; or a module, which starts with its own weights.
        out: folder for all files of the run: a new one, or that of the same run.
        hours: length of the run, everything included, > 0; fitted to the measured speed.
        epochs: or passes over the images, ≥ 1; 100 if no length is given.
        iterations: or updates of the weights, ≥ 1.
        start: weights to start from; None starts at random.
        image_size: side in pixels, ≥ 8; None takes the backbone's own.
        energy: ``restoration``, the paper's, of whole images, for any backbone, restoring and
            scoring; or ``inpainting``, ours, of masked patches, for the features of a ViT
            (``docs/small_data.md``).
        corruption: that ``restoration`` restores: ``mixed``, ``masking``, ``super-resolution``,
            ``denoising``, ``colorization``; None takes ``mixed``. ``inpainting`` has its own.
        num_steps: N, steps of descent, ≥ 1. The paper's is 2; 1 takes half as long.
        keep_batch_norm: keep batch norms, with which the energy of an image depends on its batch,
            instead of replacing them by group norms.
        batch_size: images per process, ≥ 1; None tries 256 on a GPU, 32 on a CPU, and halves it
            until it fits in memory.
        learning_rate: > 0; None takes 1e-3 × batch / 32, at most 1e-3.
        precision: ``float32``, ``bfloat16`` or ``float16``; None times half precision (bfloat16, or
            float16 on an older GPU) and float32, and takes the faster one; half precision untimed
            if timing would exceed 5 % of the training.
        workers: processes that load images, ≥ 0; None takes one per core but one, at most 8.
        compile_step: None tries it if training takes an hour or more, and keeps it if the run then
            ends sooner, compiling included.
        held_out: images that are only validated on, ≥ 1; None takes 5 %, from 16 to 1,024, at most
            a fifth.
        seed: of weights, order and corruptions, ≥ 0.
        processes: that train together, ≥ 1; several need ``train``.
        say: prints a line.
        train: trains by a config; None trains in this process.

    Returns:
        The files that were written.

    Raises:
        TypeError, ValueError, FileNotFoundError: an option, the data or the backbone cannot be
            used; says why. Nothing was written.
        MemoryError: not even one image fits in memory.
        OSError: the disk has no room.
    """
    out = Path(out).expanduser().absolute()
    sources = [data] if isinstance(data, str | Path) or hub.is_hub(data) else list(data)
    if isinstance(backbone, nn.Module):
        if start is not None:
            raise ValueError('start: a module as backbone starts with its own weights')
        backbone = networks.give(backbone)
        say(f'backbone    {backbone}: config.py cannot build it, only this process can')
    backbone = str(backbone)
    options = dict(
        data=[_name_of(source) for source in sources],
        backbone=backbone,
        hours=hours,
        epochs=epochs,
        iterations=iterations,
        start=None if start is None else str(Path(start).expanduser().absolute()),
        image_size=image_size,
        energy=energy,
        corruption='mixed' if corruption is None and energy == 'restoration' else corruption,
        num_steps=num_steps,
        keep_batch_norm=keep_batch_norm,
        batch_size=batch_size,
        learning_rate=learning_rate,
        precision=precision,
        workers=workers,
        compile_step=compile_step,
        held_out=held_out,
        seed=seed,
        processes=processes,
    )
    _check(options)
    if processes > 1 and train is None:
        raise ValueError(
            f'processes {processes} needs train, which starts them; mmebm pretrain --gpus '
            f'{processes} does so'
        )
    hub_data = [d for d in sources if hub.is_hub(d)]
    is_there = _is_there(out, options)
    with alone(out):
        if is_there:
            finished = (out / 'checkpoint.pth').is_file()
            what = 'this run is finished' if finished else 'continuing the run that is there'
            say(f'{out}: {what}')
        else:
            began = time.perf_counter()
            for source in hub_data:
                hub.write(source, out, say)
            prepare(out, options, say, began=began)
        return finish(out, train or train_here, say)


@contextlib.contextmanager
def alone(out: Path) -> Iterator[None]:
    """Keep other processes from training in ``out``; an empty folder is gone afterwards.

    Raises:
        ValueError: another one does.
    """
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(f'another process is training in {out}') from None
    try:
        yield
    finally:
        (out / LOCK).unlink(missing_ok=True)
        lock.release()
        for folder in made:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


@contextlib.contextmanager
def lead(out: str | Path, start: str = '') -> Iterator[None]:
    """Let the other machines train along with this one; see :func:`follow`."""
    file = Path(out, LEAD)
    file.write_text(start)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def follow(
    out: str | Path,
    train: Callable[[Config], None],
    say: Say,
    start: str = '',
    patience: float = PATIENCE,
    sleep: Callable[[float], object] = time.sleep,
) -> None:
    """Join a run on another machine: wait until the first one is about to train, then train.

    The first machine also writes the backbone at the end.

    Args:
        out: folder of the run, on a disk that both see.
        train: trains by a config, together with the other machine.
        say: prints a line.
        start: tells this start of all machines from earlier ones, if one was killed.
        patience: seconds to wait.
        sleep: waits for some seconds.

    Raises:
        TimeoutError: the first machine does not train.
    """
    out = Path(out).expanduser().absolute()
    if (out / 'checkpoint.pth').is_file():
        say(f'{out}: this run is finished')
        return
    say('waiting     for the first machine')
    file, waited = out / LEAD, 0.0
    while not file.is_file() or file.read_text() != start:
        if waited >= patience:
            raise TimeoutError(
                f'out {out}: no {LEAD} after {patience:.0f} s: does the first machine run, and '
                'is the folder on a disk that both see?'
            )
        sleep(LOOK_AGAIN)
        waited += LOOK_AGAIN
    train(Config.fromfile(out / 'config.py'))


def prepare(
    out: Path,
    options: dict,
    say: Say,
    clock: Callable[[], float] = time.perf_counter,
    began: float | None = None,
) -> None:
    """Look at data and backbone, choose what is not given, and write the config into ``out``."""
    began = clock() if began is None else began
    sources = [hub.folder_of(d, out) if hub.is_hub(d) else d for d in options['data']]
    images = image_lists.find(sources, options['held_out'], options['seed'])
    MMLogger.get_instance('mmebm-trial', log_level='ERROR')  # what is built here logs each tensor
    device = get_device()
    network = networks.find(options['backbone'], options['image_size'], options['keep_batch_norm'])
    if options['energy'] == 'inpainting':
        with quiet():
            check_inpainting(network)
    if network.is_timm and not network.group_norm:  # refused now, not when it is exported
        with torch.device('meta'):
            timm_call(network.config, MODELS.build(network.config).timm_model.state_dict())
    size = network.image_size
    say(
        f'backbone    {options["backbone"]}: {network.parameters / 1e6:.1f} million parameters, '
        f'images of {size} × {size}, features {network.features}'
    )
    if network.group_norm:
        say(
            f'norm        {network.group_norm} batch norms replaced by group norms, with which the '
            'energy of an image does not depend on its batch (--keep-batch-norm)'
        )
    if options['energy'] == 'inpainting':
        say(
            f'energy      of masked patches and their edges, {MASKED_SHARE:.0%} of the patches of '
            f'{network.patch_size} × {network.patch_size}: for features'
        )
    classes = f'; kNN accuracy over {len(images.classes)} classes' if images.classes else ''
    say(
        f'images      {len(images.train):,} to train on, {len(images.held_out):,} held out{classes}'
    )
    for note in images.notes:
        say(f'            {note}')
    processes = options['processes']
    asked = options['batch_size']
    batch = asked or min(BATCH_SIZES.get(device, 256), _power_of_two(len(images.train)))
    workers = options['workers']
    if workers is None:
        workers = min(8, max(1, (len(os.sched_getaffinity(0)) - 1) // processes))
    choices = dict(
        energy=options['energy'],
        corruption=options['corruption'],
        num_steps=options['num_steps'],
        processes=processes,
        precision=options['precision'] or default_dtype(device),
        workers=workers,
        compile_step=bool(options['compile_step']),
        seed=options['seed'],
        start=options['start'],
    )
    with TemporaryDirectory() as folder:
        scratch = Path(folder)
        _write_lists(scratch, images)
        tensors = starting_weights(network, options['start'])
        if tensors is not None:
            choices['start'] = str(out / START)
            save_file(tensors, scratch / START)
        draft = config_of(
            scratch,
            images,
            network,
            Choices(batch_size=batch, learning_rate=1e-9, **choices),
            length_of(Speed(1.0, 0.0), iterations=1),
        )
        if tensors is not None:
            with quiet():
                load_backbone(MODELS.build(draft.model.backbone), scratch / START)
        draft.custom_hooks = []
        for loader in (draft.train_dataloader, draft.val_dataloader):
            loader.dataset.serialize_data = False  # for which all of Python's memory is searched

        def iterations_of(batch: int) -> int:
            passes = options['epochs'] or EPOCHS
            wanted = passes * len(images.train) / (batch * processes)
            return options['iterations'] or max(1, round(wanted))

        def training(speed: Speed, batch: int) -> float:
            return total or iterations_of(batch) * speed.iteration

        total = None if options['hours'] is None else options['hours'] * 3600
        seconds = TRIAL_SECONDS if total is None else min(60.0, total / 40)
        maybe = _may_compile(options)
        say(
            'trying      batch size and precision'
            + (f', {maybe} a compiled step, which takes minutes' if maybe else '')
        )
        with quiet():
            choice = choose(draft, options, training, seconds, clock)
    batch = choice.config.train_dataloader.batch_size
    spent = clock() - began
    measured = choice.speed
    speed = Speed(measured.iteration, measured.validation / processes, spent + measured.start)
    share = min(1.0, batch * processes / REFERENCE_BATCH)
    rate = options['learning_rate'] or LEARNING_RATE * share
    length = length_of(speed, None if total else iterations_of(batch), total)
    choices['precision'] = choice.config.optim_wrapper.dtype
    choices['compile_step'] = choice.config.model.compile_step
    config = config_of(
        out,
        images,
        network,
        Choices(batch_size=batch, learning_rate=rate, seconds_before=spent, **choices),
        length,
    )
    _check_disk(out, config)
    _say_choices(say, config, options, length, speed, choice.reasons, len(images.train))
    out.mkdir(parents=True, exist_ok=True)
    (out / UNFINISHED).touch()
    _write_lists(out, images)
    if tensors is not None:
        save_file(tensors, out / START)
    header = (
        f'"""Pretraining of {options["backbone"]} on {len(images.train)} images.\n\n'
        f'python tools/train.py {out / "config.py"} --work-dir {out}-again\n"""\n\n'
    )
    (out / 'config.py').write_text(header + config.pretty_text)
    (out / OPTIONS).write_text(json.dumps(options, indent=1) + '\n')
    (out / UNFINISHED).unlink()


def starting_weights(network: networks.Network, start: str | None) -> dict[str, Tensor] | None:
    """The tensors of a given module, or of a file of timm, MMPretrain or mmebm; None for neither.

    Returns:
        Named as in the network.

    Raises:
        ValueError: the file cannot be read, or holds no tensors.
    """
    if start is None and not network.is_given:
        return None
    tensors = networks.given().state_dict() if start is None else read_backbone_tensors(start)
    if network.is_timm and not any(name.startswith('timm_model.') for name in tensors):
        tensors = {f'timm_model.{name}': tensor for name, tensor in tensors.items()}
    if network.group_norm:  # it keeps the weights of a batch norm and has no statistics
        tensors = {n: t for n, t in tensors.items() if n.split('.')[-1] not in _STATISTICS}
    return _separate(tensors)


def finish(out: Path, train: Callable[[Config], None], say: Say) -> PretrainingRun:
    """Train by the config in ``out``, or go on, and write the backbone."""
    config = Config.fromfile(out / 'config.py')
    # MMEngine names loggers by it and the second: two runs in one second would share a log, also
    # where only the folders above them differ
    config.experiment_name = '-'.join(out.resolve().parts[1:])
    if not (out / 'checkpoint.pth').is_file():
        found = newest_sound_checkpoint(out)
        if found.passed_over:
            say(f'going on from {found.path}: {"; ".join(found.passed_over)}')
        config.load_from = found.path
        config.resume = config.load_from is not None
        train(config)  # even after the last iteration: the last validation may be missing
        os.replace(out / f'epoch_{config.train_cfg.max_epochs}.pth', out / 'checkpoint.pth')
        for old in out.glob('epoch_*.pth'):
            old.unlink()
        (out / 'last_checkpoint').unlink(missing_ok=True)
    with quiet():
        backbone, usage = export(out / 'checkpoint.pth', config, out)
    say(f'\n{backbone}')
    for line in usage:
        say(f'    {line}')
    say(f'{out / "report.html"}: what was learnt')
    return PretrainingRun(
        str(backbone),
        str(out / 'checkpoint.pth'),
        str(out / 'config.py'),
        str(out / 'report.html'),
        usage,
    )


def train_here(config: Config) -> None:
    """Train in this process."""
    train_with(config, runner_of)


def train_with(config: Config, build: Callable[[Config], Runner]) -> None:
    """Train with a progress line; ``build`` makes the runner."""
    with quiet():
        runner = build(config)
    if is_main_process():  # all starts in one file
        log = logging.FileHandler(Path(runner.work_dir, 'log.txt'))
        log.setFormatter(logging.Formatter('%(asctime)s %(levelname)s %(message)s'))
        runner.logger.addHandler(log)
    progress = ProgressHook()
    runner.register_hook(progress, priority='VERY_LOW')
    try:
        runner.train()
    finally:
        progress.close()


def export(checkpoint: Path, config: Config, out: Path) -> tuple[Path, list[str]]:
    """Write the backbone alone, for timm or MMPretrain; its path and lines that load it."""
    backbone = config.model.backbone
    inner = backbone.backbone if backbone.type == 'GroupNormBackbone' else backbone
    if inner.type == networks.GIVEN:
        file = out / 'backbone.safetensors'
        save_file(_separate(read_backbone_tensors(checkpoint)), file, metadata={'format': 'pt'})
        load = f'network.load_state_dict(safetensors.torch.load_file({str(file)!r}))'
        return file, [load] if inner is backbone else [
            'network = mmebm.GroupNormBackbone(network)',
            load,
        ]
    if inner.type != 'TIMMBackbone':
        file = out / 'backbone.pth'
        return file, to_mmpretrain_file(checkpoint, file, config, overwrite=True).usage
    file = out / 'backbone.safetensors'
    if inner is backbone:
        return file, to_timm_file(checkpoint, file, None, config=config, overwrite=True).usage
    return file, _export_with_group_norm(checkpoint, config, file)


def _export_with_group_norm(checkpoint: Path, config: Config, file: Path) -> list[str]:
    """timm's network with our group norms: its tensors, and how to build it again."""
    tensors = _separate(read_backbone_tensors(checkpoint))
    tensors = {name.removeprefix('timm_model.'): tensor for name, tensor in tensors.items()}
    MODELS.build(config.model.backbone).timm_model.load_state_dict(tensors)  # strict
    save_file(tensors, file, metadata={'format': 'pt'})
    inner = config.model.backbone.backbone
    size = f', img_size={inner.img_size}' if 'img_size' in inner else ''
    return [
        f'network = mmebm.GroupNormBackbone(timm.create_model({inner.model_name!r}, '
        f'num_classes=0{size}))',
        f'network.load_state_dict(safetensors.torch.load_file({str(file)!r}))',
    ]


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies that share no memory, as safetensors wants them."""
    return {name: tensor.contiguous().clone() for name, tensor in tensors.items()}


@contextlib.contextmanager
def quiet():
    """Keep what libraries print while they are built off the terminal; it goes to log files."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _may_compile(options: dict) -> str:
    """When a compiled step is tried, too; empty if it is not."""
    if options['compile_step'] is not None:
        return ''
    if options['hours'] is None:  # the length is known after the first trial
        return 'and for a run of an hour or more'
    return 'then' if options['hours'] * 3600 >= WORTH_COMPILING else ''


def _name_of(source) -> str:
    return hub.name_of(source) if hub.is_hub(source) else str(Path(source).expanduser().absolute())


def _check(options: dict) -> None:
    lengths = [name for name in ('hours', 'epochs', 'iterations') if options[name] is not None]
    if len(lengths) > 1:
        raise ValueError(f'only one of hours, epochs and iterations fits, got {lengths}')
    for name in ('hours', 'learning_rate'):
        if options[name] is not None:
            checked_number(name, options[name], above=0)
    least = dict(epochs=1, iterations=1, image_size=8, batch_size=1, workers=0, held_out=1)
    for name, minimum in least.items():
        if options[name] is not None:
            checked_int(name, options[name], minimum)
    for name, minimum in dict(num_steps=1, seed=0, processes=1).items():
        checked_int(name, options[name], minimum)
    checked_bool('keep_batch_norm', options['keep_batch_norm'])
    for name, allowed in (
        ('energy', ENERGIES),
        ('corruption', (*CORRUPTIONS, None)),
        ('precision', (None, 'float32', 'bfloat16', 'float16')),
        ('compile_step', (None, True, False)),
    ):
        if options[name] not in allowed:
            raise ValueError(
                f'{name} must be one of {", ".join(map(str, allowed))}, got {options[name]!r}'
            )
    if options['energy'] == 'inpainting' and options['corruption'] is not None:
        raise ValueError(
            f'corruption {options["corruption"]!r} is for energy restoration, got energy inpainting'
        )
    if options['start'] is not None and not Path(options['start']).is_file():
        raise FileNotFoundError(f'start: no such file: {options["start"]}')


def _is_there(out: Path, options: dict) -> bool:
    """Whether ``out`` holds this very run.

    Raises:
        ValueError: it holds another one, or something else.
    """
    there = next(p for p in (out, *out.parents) if p.exists())
    if not there.is_dir():
        raise ValueError(f'out {out}: {there} is a file, but must be a folder')
    file = out / OPTIONS
    unfinished = (out / UNFINISHED).exists()  # ended while the files below were written
    if unfinished or not file.is_file():
        ours = unfinished or there != out or all(p.name in OURS for p in out.iterdir())
        if not ours:
            raise ValueError(f'out {out} holds other files: give a new folder')
        if not os.access(there, os.W_OK | os.X_OK):
            raise ValueError(f'out {out} cannot be written: no permission in {there}')
        return False
    before = _defaults() | json.loads(file.read_text())  # which may be older than an option
    changed = [name for name in options if options[name] != before[name]]
    if changed:
        what = '; '.join(f'{n} was {before[n]!r}, is {options[n]!r}' for n in changed)
        raise ValueError(f'out {out} holds a run with other options ({what}): give a new folder')
    return True


def _defaults() -> dict[str, Any]:
    parameters = inspect.signature(pretrain).parameters.values()
    return {p.name: p.default for p in parameters}


def _write_lists(folder: Path, images: image_lists.Images) -> None:
    lines = ''.join(f'{name}\n' for name in images.train)
    (folder / 'train.txt').write_text(lines, encoding='utf-8')
    lines = images.held_out
    if images.classes:
        lines = [f'{name} {label}' for name, label in zip(lines, images.labels, strict=True)]
    (folder / 'held_out.txt').write_text(''.join(f'{line}\n' for line in lines), encoding='utf-8')


def _check_disk(out: Path, config: Config) -> None:
    """Check that the checkpoints fit.

    Raises:
        OSError: they do not; says how much is missing.
    """
    with quiet():
        model = MODELS.build(config.model)
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    needed = 3 * size * KEPT_CHECKPOINTS  # the weights, and AdamW's two moments
    there = next(p for p in (out, *out.parents) if p.is_dir())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise OSError(
            f'out {out}: its checkpoints take {needed / 1e6:,.0f} MB, but only {free / 1e6:,.0f} '
            f'MB are free: {(needed - free) / 1e6:,.0f} MB are missing'
        )


def _say_choices(say, config, options, length, speed, reasons, num_images) -> None:
    loader, wrapper = config.train_dataloader, config.optim_wrapper
    processes = options['processes']
    batch = loader.batch_size
    total = batch * processes
    rate = wrapper.optimizer.lr
    for name, value, asked, reason in (
        (
            'batch',
            f'{batch} × {processes} processes' if processes > 1 else batch,
            options['batch_size'],
            reasons.get('batch'),
        ),
        ('lr', f'{rate:.3g}', options['learning_rate'], f'1e-3 × {total} / 32, at most 1e-3'),
        ('precision', wrapper.dtype, options['precision'], reasons.get('precision')),
        (
            'compile',
            'yes' if config.model.compile_step else 'no',
            options['compile_step'],
            reasons.get('compile'),
        ),
        ('workers', loader.num_workers, options['workers'], 'one per core but one, at most 8'),
    ):
        say(f'{name:<11} {value}: {reason if asked is None else "as asked for"}')
    minutes = (speed.start + length.iterations * speed.iteration) / 60
    epochs = length.iterations * total / num_images
    say(
        f'length      {length.iterations:,} iterations in {length.rounds} rounds, {epochs:.1f} '
        f'epochs, about {minutes:.0f} min at {total / speed.iteration:.0f} images/s\n'
    )


def _power_of_two(count: int) -> int:
    return 1 << max(0, count.bit_length() - 1)
