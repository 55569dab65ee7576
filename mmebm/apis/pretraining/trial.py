"""Try a few iterations: do they fit in memory, and how long do they take?"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner
from mmpretrain.registry import MODELS

from .plan import Speed

WARM_UP = 3  # iterations that are not timed; fewer where they take long
FEWEST = 2  # that are
TRIAL_SHARE = 0.05  # of the training, which another precision may take to try
WORTH_COMPILING = 3600.0  # seconds of training, from which on compiling is tried: it takes minutes
BRIEF = 3.0  # seconds for which each of these is measured
GAIN = 1.05  # how much faster half precision must be


def measure(
    config: Config, seconds: float, clock: Callable[[], float] = time.perf_counter
) -> Speed:
    """Time training iterations, data included, and the validation of a batch. Keeps nothing.

    Args:
        config: of the run.
        seconds: how long to measure, once warm.
        clock: what tells the time, in seconds.

    Raises:
        MemoryError: an iteration does not fit in memory.
    """
    began = clock()
    device = get_device()
    try:
        torch.manual_seed(config.randomness.seed)
        model = MODELS.build(config.model)
        model.init_weights()
        model.to(device).train()
        wrapper = build_optim_wrapper(model, config.optim_wrapper)
        loader = Runner.build_dataloader(config.train_dataloader, seed=0)
        batches = _endless(loader)

        def iterate() -> float:
            start = clock()
            wrapper.update_params(_loss_of(model, next(batches), wrapper))
            if device != 'cpu':
                torch.cuda.synchronize()
            return clock() - start

        warm_up, times = [iterate()], []
        while len(warm_up) < WARM_UP and sum(warm_up) < seconds:
            warm_up.append(iterate())
        ready = clock() - began
        while len(times) < FEWEST or sum(times) < seconds:
            times.append(iterate())
        batches.close()
        model.eval()
        held_out = Runner.build_dataloader(config.val_dataloader, seed=0)
        batch = next(iter(held_out))
        start = clock()
        with torch.no_grad():
            model.val_step(batch)
        validation = (clock() - start) * len(held_out)
    except (torch.cuda.OutOfMemoryError, MemoryError) as error:
        raise MemoryError('a batch does not fit in memory') from error
    except RuntimeError as error:
        if 'allocate memory' in str(error):  # torch's own on a CPU
            raise MemoryError('a batch does not fit in memory') from error
        raise
    # the mean, since a slow loader makes few iterations wait for long
    mean = sum(times) / len(times)
    return Speed(iteration=max(mean, median(times)), validation=validation, start=ready)


def _loss_of(model: torch.nn.Module, batch: dict, wrapper) -> torch.Tensor:
    """The loss of a batch, as MMEngine's ``train_step`` computes it."""
    with wrapper.optim_context(model):
        data = model.data_preprocessor(batch, True)
        loss, _ = model.parse_losses(model(**data, mode='loss'))
    return loss


@dataclass(frozen=True)
class Choice:
    """What was tried and taken.

    Attributes:
        config: with the batch, precision and compiled or plain step that were taken.
        speed: with these.
        reasons: why, for ``batch``, ``precision`` and ``compile``; without those asked for.
    """

    config: Config
    speed: Speed
    reasons: dict[str, str]


def choose(
    draft: Config,
    asked: Mapping[str, object],
    training: Callable[[Speed, int], float],
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Choice:
    """Choose batch size, precision, and whether to compile, by trying a few iterations of each.

    Args:
        draft: config of the run, with the largest batch to try.
        asked: ``batch_size``, ``precision`` and ``compile_step``; one that is not None is taken.
        training: the seconds of training, from a speed and a batch size.
        seconds: how long to measure, once warm.
        clock: what tells the time, in seconds.

    Raises:
        MemoryError: one image, or the batch that was asked for, does not fit in memory.
    """
    reasons = {}
    most = draft.train_dataloader.batch_size
    if asked['batch_size'] is None:
        config, speed = largest_batch(draft, most, seconds, clock)
        batch = config.train_dataloader.batch_size
        reasons['batch'] = (
            f'{2 * batch} images do not fit in memory'
            if batch < most
            else 'fits in memory; a larger one would leave fewer steps'
        )
    else:
        config, batch = with_batch(draft, most), most
        try:
            speed = measure(config, seconds, clock)
        except MemoryError as error:
            raise MemoryError(f'batch_size {most} does not fit in memory: take less') from error

    brief = min(seconds, BRIEF)
    half = config.optim_wrapper.dtype
    if asked['precision'] is None and half != 'float32':
        takes = speed.start + max(brief, FEWEST * speed.iteration)
        if takes > TRIAL_SHARE * training(speed, batch):
            reasons['precision'] = 'the run is too short to try another'
        else:
            full = with_entries(config, {'optim_wrapper.dtype': 'float32'})
            config, speed, reasons['precision'] = _faster(config, speed, full, brief, clock)
    elif asked['precision'] is None:
        reasons['precision'] = 'the device does not compute in bfloat16'

    if asked['compile_step'] is None:
        length = training(speed, batch)
        if length < WORTH_COMPILING:
            reasons['compile'] = 'the run is too short to win back the minutes that it takes'
        else:
            compiled = with_entries(config, {'model.compile_step': True})
            config, speed, reasons['compile'] = _compiled(
                config, speed, compiled, length, brief, clock
            )
    return Choice(config, speed, reasons)


def _faster(
    half: Config, speed: Speed, full: Config, seconds: float, clock: Callable[[], float]
) -> tuple[Config, Speed, str]:
    """The precision with the faster iterations: config, speed, reason."""
    name = half.optim_wrapper.dtype
    try:
        other = measure(full, seconds, clock)
    except MemoryError:
        return half, speed, 'float32 does not fit in memory'
    times = f'{_time(speed.iteration)} in {name}, {_time(other.iteration)} in float32'
    if other.iteration < GAIN * speed.iteration:
        return full, other, f'an iteration takes {times}'
    return half, speed, f'an iteration takes {times}'


def _compiled(
    config: Config,
    speed: Speed,
    compiled: Config,
    length: float,
    seconds: float,
    clock: Callable[[], float],
) -> tuple[Config, Speed, str]:
    """The step with which a run of ``length`` seconds, uncompiled, ends first."""
    try:
        other = measure(compiled, seconds, clock)
    except MemoryError:
        return config, speed, 'it does not fit in memory'
    iterations = length / speed.iteration
    extra = max(0.0, other.start - speed.start)
    saved = iterations * (speed.iteration - other.iteration)
    reason = (
        f'takes {_time(extra)}, and an iteration then {_time(other.iteration)} in place of '
        f'{_time(speed.iteration)}'
    )
    return (compiled, other, reason) if saved > extra else (config, speed, reason)


def _time(seconds: float) -> str:
    return f'{seconds:.0f} s' if seconds >= 10 else f'{1000 * seconds:.0f} ms'


def largest_batch(
    config: Config,
    batch_size: int,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Config, Speed]:
    """Halve the batch until it fits.

    Raises:
        MemoryError: one image does not fit.
    """
    while True:
        tried = with_batch(config, batch_size)
        try:
            return tried, measure(tried, seconds, clock)
        except MemoryError as error:
            if batch_size == 1:
                raise MemoryError(
                    'one image does not fit in memory: take a smaller image_size or backbone'
                ) from error
        torch.cuda.empty_cache()  # now that no traceback holds the model
        batch_size //= 2


def with_batch(config: Config, batch_size: int) -> Config:
    """A copy with another batch size, one batch to a round."""
    config = Config(config.to_dict())
    config.train_dataloader.batch_size = config.val_dataloader.batch_size = batch_size
    config.train_dataloader.sampler.round_size = batch_size
    config.train_dataloader.dataset.repeats = batch_size + 1  # enough for any number of images
    return config


def with_entries(config: Config, entries: dict) -> Config:
    """A copy with other entries."""
    config = Config(config.to_dict())
    config.merge_from_dict(entries)
    return config


def _endless(loader):
    round_ = 0
    while True:
        loader.sampler.set_epoch(round_)
        yield from loader
        round_ += 1
