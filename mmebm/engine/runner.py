"""MMEngine's runner, as every training of this project builds it."""

import datetime
import gc
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from ..backbones.weights import MIN_SHARE
from ..utils.checkpoint import load_checkpoint_safely, newest_sound_checkpoint, register_safe_loader
from ..utils.quiet import quiet_terminal, quiet_torch
from ..utils.state_dict import shortened
from ..utils.whole_files import register_whole_files
from .hooks import BoundedHistoryHook, MissedValidationHook


def runner_of(config: Config) -> Runner:
    """Build the runner, with what makes a run survive interruptions and long trainings.

    Checkpoints are loaded without running code and written as a whole; logged figures are bounded;
    a resumed run passes over a checkpoint that cannot be read, and runs a skipped validation. The
    processes of torchrun train over gloo on a machine without a GPU.

    Raises:
        FileNotFoundError, ValueError: as :func:`load_checkpoint_safely`, of what is to be loaded.
    """
    register_safe_loader()
    register_whole_files()
    quiet_torch()
    if not torch.cuda.is_available() and config.get('launcher') == 'pytorch':
        _use_gloo(config)
    for stage in ('train', 'val', 'test'):
        collate_fn = (config.get(f'{stage}_dataloader') or {}).get('collate_fn')
        if isinstance(collate_fn, dict):  # inherited from mmpretrain::, it has an unknown argument
            collate_fn.pop('_scope_', None)
    passed_over = []
    if config.get('resume') and config.get('load_from') is None:
        config.load_from, passed_over = newest_sound_checkpoint(config.work_dir)
    elif config.get('load_from') and '://' not in config.load_from:
        load_checkpoint_safely(config.load_from, mmap=True)  # rather now than once all is built
    runner = Runner.from_cfg(config)
    quiet_terminal(runner.logger)
    if passed_over:
        runner.logger.warning(f'Going on from {config.load_from}: {"; ".join(passed_over)}')
    runner.register_hook(BoundedHistoryHook())
    runner.register_hook(EndWorkersHook(), priority='LOWEST')
    if config.get('resume'):
        runner.register_hook(MissedValidationHook())
    return runner


class EndWorkersHook(Hook):
    """End the workers of data loaders with the run.

    The garbage collector would close their queues first, and then wait five seconds for each.
    """

    def after_run(self, runner: Runner) -> None:
        for loop in (runner._train_loop, runner._val_loop, runner._test_loop):
            if hasattr(loop, 'dataloader'):
                loop.dataloader._iterator = None


def _use_gloo(config: Config) -> None:
    # MMEngine selects a GPU before it opens the process group, so it is opened here
    if not distributed.is_initialized():
        seconds = ((config.get('env_cfg') or {}).get('dist_cfg') or {}).get('timeout')
        timeout = None if seconds is None else datetime.timedelta(seconds=seconds)
        distributed.init_process_group('gloo', timeout=timeout)
    # otherwise MMEngine passes a GPU's number to its model wrapper
    wrapper = config.get('model_wrapper_cfg') or ConfigDict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=config.get('find_unused_parameters', False),
    )
    config.model_wrapper_cfg = ConfigDict(wrapper, device_ids=None)
    config.sync_bn = None  # torch's SyncBatchNorm trains on GPUs only
    if distributed.get_rank() == 0:
        print('No GPU found: training on the CPU over gloo, with unsynchronised batch norm.')


def close_process_group(backend: str | None = None) -> None:
    """End a distributed run that all processes have finished, or only this one's over ``backend``.

    Without it gloo's threads outlive the interpreter, and occasionally one of them aborts the
    finished process (https://github.com/pytorch/pytorch/issues/190489).
    """
    if distributed.is_initialized() and backend in (None, distributed.get_backend()):
        if backend is None and distributed.get_backend() == 'gloo':
            distributed.barrier()  # in torch 2.5 the second to leave may wait for ever
        gc.collect()  # the runner is a reference cycle, which keeps the model and the group alive
        distributed.destroy_process_group()


def check_weights(runner: Runner, config: Config, whole: bool) -> None:
    """Refuse a checkpoint of another network; MMEngine would load what fits and only warn.

    The file must hold the ``whole`` network, as for testing and resuming, or 90 % of the backbone.
    Position embeddings (names with ``pos``) may differ, because many networks resize them.

    Raises:
        ValueError: names tensors that differ.
    """
    path, model = config.get('load_from'), runner.model
    model = model.module if isinstance(model, DistributedDataParallel) else model
    if path is None or '://' in path or is_model_wrapper(model):  # other wrappers shard the tensors
        return
    checkpoint = load_checkpoint_safely(path, mmap=True)
    state, own = _weights(checkpoint.get('state_dict', checkpoint)), _weights(model.state_dict())
    if not whole:
        own = {name: t for name, t in own.items() if name.startswith('backbone.')} or own
    differing = [n for n, t in own.items() if n not in state or state[n].shape != t.shape]
    if config.get('resume'):
        differing += state.keys() - own.keys()
    if len(differing) > (0 if whole else (1 - MIN_SHARE) * len(own)):
        raise ValueError(
            f'checkpoint {path} belongs to another network than the {type(model).__name__} of the '
            f'config: {len(differing)} of {len(own)} tensors differ: {shortened(differing)}'
        )


def _weights(state: Mapping[str, Any]) -> dict[str, Tensor]:
    return {
        name.removeprefix('module.'): value
        for name, value in state.items()
        if isinstance(value, Tensor) and value.is_floating_point() and 'pos' not in name
    }


def check_batches(runner: Runner) -> None:
    """Build the training data, and refuse data that does not fill a batch."""
    loop = runner.train_loop
    if isinstance(loop, EpochBasedTrainLoop) and len(loop.dataloader) == 0:
        images = len(loop.dataloader.sampler)
        raise ValueError(
            f'{images} training images for each process fill no batch, and drop_last discards '
            'smaller ones: lower train_dataloader.batch_size, or repeat the images '
            '(train_dataloader.dataset.repeats of ImageFolder)'
        )
