"""Try a few iterations: which batch fits in memory, and how long do they take?"""

import time
from collections.abc import Iterator
from statistics import mean, median
from typing import NamedTuple

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner
from mmpretrain.registry import MODELS

from ..backbones.probe import one_line

WARM_UP = 3  # iterations that are not timed; fewer where they take long
FEWEST = 2  # that are


class Speed(NamedTuple):
    """What a run takes, as measured, in seconds."""

    iteration: float  # of training
    validation: float  # a whole one
    start: float = 0.0  # until the first iteration


def largest_batch(config: Config, batch: int, seconds: float, halve: bool) -> tuple[int, Speed]:
    """Halve the batch until it fits, and measure the speed.

    Args:
        config: of the run.
        batch: images per process, to begin with.
        seconds: how long to measure.
        halve: else this batch has to fit.

    Raises:
        MemoryError: one image, or the batch that has to, does not fit.
        ValueError: the network cannot be trained; says why.
    """
    while True:
        try:
            return batch, measure(config, batch, seconds)
        except (MemoryError, RuntimeError) as error:
            if not _is_of_memory(error):
                raise
            if batch == 1 or not halve:
                raise MemoryError(
                    f'{batch} images of {config.model.backbone.type} do not fit in memory: take a '
                    'smaller batch_size, image_size or backbone'
                ) from error
        torch.cuda.empty_cache()  # now that no traceback holds the model
        batch //= 2


def measure(config: Config, batch: int, seconds: float) -> Speed:
    """Time training iterations, data included, and the validation of a batch. Keeps nothing.

    Args:
        config: of the run.
        batch: images per process.
        seconds: how long to measure, once warm.

    Raises:
        ValueError: the network cannot be trained; says why.
    """
    began, device = time.perf_counter(), get_device()
    config = Config(config.to_dict())
    config.train_dataloader.sampler.round_size = batch
    config.train_dataloader.dataset.repeats = batch + 1  # enough for any number of images
    for loader in (config.train_dataloader, config.val_dataloader):
        loader.batch_size = batch
        loader.dataset.serialize_data = False  # for which all of Python's memory is searched
    batches = _endless(Runner.build_dataloader(config.train_dataloader, seed=0))
    held_out = Runner.build_dataloader(config.val_dataloader, seed=0)
    val_batch, data = next(iter(held_out)), next(batches)

    def iterate() -> float:
        start = time.perf_counter()
        model.train_step(next(batches), wrapper)
        if device == 'cuda':
            torch.cuda.synchronize()
        return time.perf_counter() - start

    try:
        torch.manual_seed(config.randomness.seed)
        model = MODELS.build(config.model)
        model.init_weights()
        model.to(device).train()
        wrapper = build_optim_wrapper(model, config.optim_wrapper)
        model.train_step(data, wrapper)
    except Exception as error:  # other people's code: it fails in any way
        if _is_of_memory(error):
            raise
        raise ValueError(f'{type(error).__name__}: {one_line(error)}') from error
    warm_up, times = [iterate()], []
    while len(warm_up) < WARM_UP and sum(warm_up) < seconds:
        warm_up.append(iterate())
    ready = time.perf_counter() - began
    while len(times) < FEWEST or sum(times) < seconds:
        times.append(iterate())
    batches.close()
    model.eval()
    start = time.perf_counter()
    with torch.no_grad():
        model.val_step(val_batch)
    validation = (time.perf_counter() - start) * len(held_out)
    # the mean, since a slow loader makes few iterations wait for long
    return Speed(max(mean(times), median(times)), validation, ready)


def _is_of_memory(error: Exception) -> bool:
    kinds = (MemoryError, torch.cuda.OutOfMemoryError)
    return isinstance(error, kinds) or 'allocate memory' in str(error)  # torch's on a CPU


def _endless(loader) -> Iterator[dict]:
    round_ = 0
    while True:
        loader.sampler.set_epoch(round_)
        yield from loader
        round_ += 1
