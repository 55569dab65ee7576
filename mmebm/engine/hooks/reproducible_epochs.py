"""Random numbers that depend on the epoch, not on where a run was interrupted."""

import random
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner
from mmpretrain.registry import HOOKS

from ...datasets import derive_seeds, inner_datasets, leaf_datasets


@HOOKS.register_module()
class ReproducibleEpochsHook(Hook):
    """Make an epoch draw the same random numbers whether or not the run was interrupted before.

    Before each training epoch the datasets (also inside wrappers) are told the epoch and the run's
    seed (``randomness=dict(seed=...)``), see :meth:`mmebm.datasets.ImageFolder.set_epoch`. At the
    first iteration of the epoch the main process's generators, from which random layers such as
    drop path draw, are seeded from seed, epoch and rank. A run that is resumed at an epoch then
    repeats, on the same number of processes, what the uninterrupted run did, bit-identical if the
    device computes deterministically. Validation and test sets are always told epoch 0 and keep
    their own seed, so that every validation has the same crops and corruptions.

    Some data cannot be made to repeat, and one warning says so: datasets without a
    ``set_epoch(epoch, seed)``; wrappers that repeat samples within an epoch (``RepeatDataset``),
    whose repetitions would all draw the same (use ``ImageFolder(repeats=...)``); and
    iteration-based loops, whose only epoch shows every image many times.
    """

    _warned = False
    _seed_generators = False

    def before_train_epoch(self, runner: Runner) -> None:
        """Tell the training data its epoch."""
        self._seed_generators = True
        dataset = runner.train_dataloader.dataset
        leaves = leaf_datasets(dataset)
        dumb = [leaf for leaf in leaves if not hasattr(leaf, 'set_epoch')]
        if isinstance(runner.train_loop, IterBasedTrainLoop):
            obstacle = 'the train loop counts iterations, not epochs'
        elif _repeats(dataset):
            obstacle = 'a wrapper shows samples more than once in an epoch'
        else:
            for number, leaf in enumerate(leaves):
                if hasattr(leaf, 'set_epoch'):  # seeds differ, so that two folders draw differently
                    leaf.set_epoch(runner.epoch, runner.seed + number)
            obstacle = f'{type(dumb[0]).__name__} has no set_epoch(epoch, seed)' if dumb else ''
        if obstacle and not self._warned:
            self._warned = True
            runner.logger.warning(
                f'Exact resuming is not available for the training data: {obstacle}. A resumed run '
                'will crop and corrupt images differently than an uninterrupted one.'
            )

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed the main process's generators at the first iteration of an epoch."""
        # Not earlier: making a loader's iterator draws from torch's generator, and with persistent
        # workers that happens only in the first epoch after a start.
        if self._seed_generators:
            self._seed_generators = False
            by_iteration = isinstance(runner.train_loop, IterBasedTrainLoop)
            progress = runner.iter if by_iteration else runner.epoch
            seeds = derive_seeds(runner.seed, progress, get_rank())
            np.random.seed(seeds[0])
            random.seed(seeds[1])
            torch.manual_seed(seeds[2])

    def _before_epoch(self, runner: Runner, mode: str = 'train') -> None:
        """Make every validation and test draw the same."""
        for leaf in leaf_datasets(getattr(runner, f'{mode}_dataloader').dataset):
            if hasattr(leaf, 'set_epoch'):
                leaf.set_epoch(0)


def _repeats(dataset: Any) -> bool:
    """Whether a wrapper, at any depth, is longer than what it wraps."""
    inner = inner_datasets(dataset)
    return bool(inner) and (len(dataset) > sum(map(len, inner)) or any(map(_repeats, inner)))
