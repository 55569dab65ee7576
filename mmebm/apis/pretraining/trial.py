"""Try a few iterations: do they fit in memory, and how long do they take?"""

import time
from collections.abc import Callable
from statistics import median

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner
from mmpretrain.registry import MODELS

from .plan import Speed

WARM_UP = 3  # iterations that are not timed
FEWEST = 3  # that are


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
        times = []
        while len(times) < WARM_UP + FEWEST or sum(times[WARM_UP:]) < seconds:
            start = clock()
            wrapper.update_params(_loss_of(model, next(batches), wrapper))
            if device != 'cpu':
                torch.cuda.synchronize()
            times.append(clock() - start)
            if len(times) == WARM_UP:
                ready = clock() - began
        batches.close()
        model.eval()
        held_out = Runner.build_dataloader(config.val_dataloader, seed=0)
        batch = next(iter(held_out))
        start = clock()
        with torch.no_grad():
            model.val_step(batch)
        validation = (clock() - start) * len(held_out)
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise MemoryError('a batch does not fit in memory') from error
    except RuntimeError as error:
        if 'allocate memory' in str(error):  # torch's own on a CPU
            raise MemoryError('a batch does not fit in memory') from error
        raise
    # the mean, since a slow loader makes few iterations wait for long, but without the first ones
    mean = sum(times[WARM_UP:]) / len(times[WARM_UP:])
    return Speed(iteration=max(mean, median(times[WARM_UP:])), validation=validation, start=ready)


def _loss_of(model: torch.nn.Module, batch: dict, wrapper) -> torch.Tensor:
    """The loss of a batch, as MMEngine's ``train_step`` computes it."""
    with wrapper.optim_context(model):
        data = model.data_preprocessor(batch, True)
        loss, _ = model.parse_losses(model(**data, mode='loss'))
    return loss


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
            torch.cuda.empty_cache()
            if batch_size == 1:
                raise MemoryError(
                    'one image does not fit in memory: take a smaller image_size or backbone'
                ) from error
            batch_size //= 2


def with_batch(config: Config, batch_size: int) -> Config:
    """A copy with another batch size, one batch to a round."""
    config = Config(config.to_dict())
    config.train_dataloader.batch_size = config.val_dataloader.batch_size = batch_size
    config.train_dataloader.sampler.round_size = batch_size
    config.train_dataloader.dataset.repeats = batch_size + 1  # enough for any number of images
    return config


def _endless(loader):
    round_ = 0
    while True:
        loader.sampler.set_epoch(round_)
        yield from loader
        round_ += 1
