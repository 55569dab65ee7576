"""Rounds of a fixed number of samples, from an endless stream of shuffled passes."""

import os
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.dist import get_dist_info
from mmengine.registry import FUNCTIONS
from mmpretrain.registry import DATA_SAMPLERS
from torch.utils.data import Sampler

from ..utils import checked_int, derive_seeds


@DATA_SAMPLERS.register_module()
class RoundSampler(Sampler):
    """A fixed number of samples per round, whatever the size of the dataset.

    To the runner a round is an epoch: it saves, validates and resumes after whole rounds. Passes
    over the dataset, each shuffled anew, follow each other without regard to where rounds end, so
    that after any number of rounds each image was drawn as often as any other, give or take one.
    What a round holds depends on seed and round only: a resumed run sees the images that the
    uninterrupted run would have seen.

    Args:
        dataset: of any size ≥ 1.
        round_size: samples per round over all processes, ≥ 1; a multiple of their number.
        seed: of the order; the same in all processes.

    Raises:
        TypeError, ValueError: an option of another type or range.
    """

    def __init__(self, dataset: Any, round_size: int, seed: int = 0):
        self.rank, self.world_size = get_dist_info()
        self.dataset = dataset
        self.round_size = checked_int('round_size', round_size, minimum=1)
        if round_size % self.world_size:
            raise ValueError(
                f'round_size must be a multiple of the {self.world_size} processes, got '
                f'{round_size}'
            )
        self.seed = checked_int('seed', seed, minimum=0)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the round, from 0; MMEngine's ``DistSamplerSeedHook`` does."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        size, order, current = len(self.dataset), None, None
        start = self.epoch * self.round_size
        for position in range(start + self.rank, start + self.round_size, self.world_size):
            number, place = divmod(position, size)
            if number != current:
                generator = torch.Generator().manual_seed(derive_seeds(self.seed, number)[0])
                order, current = torch.randperm(size, generator=generator), number
            yield int(order[place])

    def __len__(self) -> int:
        return self.round_size // self.world_size


@FUNCTIONS.register_module()
def own_process_group(worker_id: int) -> None:
    """Take a loader's worker out of the process group, to which a terminal sends Ctrl-C.

    The main process can then finish the round before it ends its workers. A ``worker_init_fn``.
    """
    os.setpgrp()
