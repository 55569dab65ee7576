"""MMEngine's runner, as every training of this project builds it."""

import datetime
import gc
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
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
    a resumed run makes up for the validation that it missed, and passes over a last checkpoint that
    cannot be read. The processes of torchrun train over gloo on a machine without a GPU.

    Raises:
        FileNotFoundError: the checkpoint to load does not exist.
        ValueError: it would run code, is damaged, or is not a checkpoint.
    """
    register_safe_loader()
    register_whole_files()
    quiet_torch()
    if not torch.cuda.is_available() and config.get('launcher') == 'pytorch':
        _use_gloo(config)
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
    if config.get('resume'):
        runner.register_hook(MissedValidationHook())
    return runner


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
    """End a distributed run, or only one over ``backend``.

    Without it gloo's threads outlive the interpreter, and occasionally one of them aborts the
    finished process (https://github.com/pytorch/pytorch/issues/190489).
    """
    if distributed.is_initialized() and backend in (None, distributed.get_backend()):
        gc.collect()  # the runner is a reference cycle, which keeps the model and the group alive
        distributed.destroy_process_group()


def check_weights(runner: Runner, config: Config, whole: bool) -> None:
    """Refuse a checkpoint of another network; MMEngine would load what fits and only warn.

    Position embeddings (names with ``pos``) may be missing or have another shape, because many
    networks resize them while loading.

    Args:
        runner: built, not run.
        config: its config.
        whole: whether the file must hold the whole network, as for testing; resuming always needs
            that. Otherwise ``load_from`` must fill 90 % of the backbone, and the head may be new.

    Raises:
        ValueError: the checkpoint belongs to another network; names tensors that differ.
    """
    path, model = config.get('load_from'), runner.model
    model = model.module if isinstance(model, DistributedDataParallel) else model
    if path is None or '://' in path or is_model_wrapper(model):  # other wrappers shard the tensors
        return
    resumed, checkpoint = bool(config.get('resume')), load_checkpoint_safely(path, mmap=True)
    state = _weights(checkpoint.get('state_dict', checkpoint))
    expected, differing = _weights(model.state_dict()), []
    if not whole and not resumed:
        expected = {n: t for n, t in expected.items() if n.startswith('backbone.')} or expected
        most = (1 - MIN_SHARE) * len(expected)
    else:
        most = 0
        differing += [name for name in state if resumed and name not in expected]
    differing += [n for n, t in expected.items() if n not in state or state[n].shape != t.shape]
    if len(differing) > most:
        raise ValueError(
            f'checkpoint {path} belongs to another network than the {type(model).__name__} of the '
            f'config: {len(differing)} of {len(expected)} tensors differ: {shortened(differing)}'
        )


def _weights(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The floating-point tensors of a state dict, without position embeddings."""
    return {
        name.removeprefix('module.'): value
        for name, value in state.items()
        if isinstance(value, Tensor) and value.is_floating_point() and 'pos' not in name
    }


def check_batches(runner: Runner) -> None:
    """Build the training data, and refuse data that does not fill a batch.

    Raises:
        ValueError: there are fewer images than the batch size, and ``drop_last`` is set.
    """
    loop = runner.train_loop
    if not isinstance(loop, EpochBasedTrainLoop) or len(loop.dataloader) > 0:
        return
    images = len(loop.dataloader.sampler)
    raise ValueError(
        f'{images} training images for each process fill no batch, and drop_last discards smaller '
        f'ones: set train_dataloader.batch_size to at most {max(images, 1)}, or give more images '
        '(train_dataloader.dataset.repeats of ImageFolder)'
    )
