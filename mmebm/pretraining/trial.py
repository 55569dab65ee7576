"""Try a few iterations: which batch fits in memory, and how long do they take?"""

import time
from statistics import mean
from typing import NamedTuple

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner
from mmpretrain.registry import MODELS

from ..backbones.probe import one_line

FEWEST, MOST = 2, 10**6  # timed iterations


class Speed(NamedTuple):
    """What a run takes, as measured, in seconds."""

    iteration: float  # of training
    validation: float  # a whole one
    start: float = 0.0  # until the first iteration


def largest_batch(config: Config, batch: int, seconds: float, halve: bool) -> tuple[int, Speed]:
    """:func:`measure` a batch, and halve it until it fits in memory, if ``halve``."""
    while True:
        try:
            return batch, measure(config, batch, seconds)
        except MemoryError:
            if batch == 1 or not halve:
                raise
        torch.cuda.empty_cache()  # now that no traceback holds the model
        batch //= 2


def measure(config: Config, batch: int, seconds: float) -> Speed:
    """Time ``seconds`` of training iterations, data included, and a validation. Keeps nothing.

    Raises:
        MemoryError: the batch does not fit in memory.
        ValueError: the network cannot be trained; says why.
    """
    began, device, config = time.perf_counter(), get_device(), Config(config.to_dict())
    config.train_dataloader.sampler.round_size = batch * MOST
    config.train_dataloader.dataset.repeats = batch * MOST + 1  # enough for any number of images
    for loader in (config.train_dataloader, config.val_dataloader):
        loader.batch_size = batch
        loader.dataset.serialize_data = False  # for which all of Python's memory is searched
    batches = iter(Runner.build_dataloader(config.train_dataloader, seed=0))
    held_out = Runner.build_dataloader(config.val_dataloader, seed=0)
    data, val_data = next(batches), next(iter(held_out))
    try:
        torch.manual_seed(config.randomness.seed)
        model = MODELS.build(config.model)
        model.init_weights()
        model.to(device).train()
        wrapper = build_optim_wrapper(model, config.optim_wrapper)
        model.train_step(data, wrapper)
        ready, times = time.perf_counter(), []
        while len(times) < FEWEST or sum(times) < seconds:
            start = time.perf_counter()
            model.train_step(next(batches), wrapper)
            if device == 'cuda':
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        model.eval()
        start = time.perf_counter()
        with torch.no_grad():
            model.val_step(val_data)
        validation = (time.perf_counter() - start) * len(held_out)
    except Exception as error:  # other people's code: it fails in any way
        no_room = (MemoryError, torch.cuda.OutOfMemoryError)
        if isinstance(error, no_room) or 'allocate memory' in str(error):  # torch's own on a CPU
            smaller = 'choose a smaller batch_size, image_size or backbone'
            raise MemoryError(f'a batch of {batch} does not fit in memory: {smaller}') from error
        raise ValueError(f'{type(error).__name__}: {one_line(error)}') from error
    return Speed(mean(times), validation, ready - began)
