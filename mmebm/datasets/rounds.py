"""Rounds of a fixed number of samples, cut from endless shuffled passes over the images."""

import os
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.dist import get_dist_info
from mmengine.registry import FUNCTIONS
from mmpretrain.registry import DATA_SAMPLERS
from torch.utils.data import Sampler

from ..utils import checked_int
from .image_folder import ImageFolder, derive_seeds


@DATA_SAMPLERS.register_module()
class RoundSampler(Sampler[int]):
    """A fixed number of samples per round, however many images there are.

    To MMEngine a round is an epoch: it saves, validates and resumes after whole rounds. Passes over
    the images, each shuffled anew, follow each other regardless of where rounds end. A round
    depends only on the seed and its number: a resumed run sees what the uninterrupted one would.

    Args:
        dataset: with as many ``repeats`` as passes that a round touches (:func:`passes_in_round`):
            an image that comes twice in a round is then cropped and corrupted differently.
        round_size: samples per round, of all processes together, ≥ 1.
        seed: of the order, ≥ 0; the same in all processes.

    Raises:
        TypeError, ValueError: an option is no such integer, the processes do not divide
            ``round_size``, or the dataset has too few ``repeats``.
    """

    def __init__(self, dataset: ImageFolder, round_size: int, seed: int = 0):
        self.rank, self.world_size = get_dist_info()
        self.round_size = checked_int('round_size', round_size, minimum=1)
        self.seed = checked_int('seed', seed, minimum=0)
        self.num_images = dataset.num_images
        if round_size % self.world_size:
            raise ValueError(f'round_size={round_size}: no multiple of {self.world_size} processes')
        needed = passes_in_round(round_size, self.num_images)
        if dataset.repeats < needed:
            raise ValueError(f'the dataset needs repeats={needed}, got {dataset.repeats}')
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the round, from 0; MMEngine's ``DistSamplerSeedHook`` does."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        start = self.epoch * self.round_size
        first, current, order = start // self.num_images, -1, []
        for position in range(start + self.rank, start + self.round_size, self.world_size):
            number, place = divmod(position, self.num_images)
            if number != current:
                generator = torch.Generator().manual_seed(derive_seeds(self.seed, number)[2])
                order = torch.randperm(self.num_images, generator=generator).tolist()
                current = number
            yield order[place] + self.num_images * (number - first)

    def __len__(self) -> int:
        return self.round_size // self.world_size


def passes_in_round(round_size: int, num_images: int) -> int:
    """How many passes over the images a round touches at most."""
    return -(-round_size // num_images) + 1


@FUNCTIONS.register_module()
def own_process_group(worker_id: int) -> None:
    """Take a loader's worker out of the process group, to which a terminal sends Ctrl-C.

    The main process can then finish the round before it ends its workers. A ``worker_init_fn``.
    """
    if hasattr(os, 'setpgrp'):  # not on Windows
        os.setpgrp()


def inner_datasets(dataset: Any) -> list[Any]:
    """The datasets that a wrapper holds, an empty list for a dataset that wraps none."""
    inner = getattr(dataset, 'dataset', None)
    return list(getattr(dataset, 'datasets', None) or ([] if inner is None else [inner]))


def leaf_datasets(dataset: Any) -> list[Any]:
    """The datasets below any depth of wrappers, in their order; ``[dataset]`` without a wrapper."""
    inner = inner_datasets(dataset)
    return [leaf for part in inner for leaf in leaf_datasets(part)] if inner else [dataset]
