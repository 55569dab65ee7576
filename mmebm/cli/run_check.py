"""Checks after a run is built and before its first iteration: weights and batches."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.model import is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from ..backbones.weights import MIN_SHARE
from ..datasets import leaf_datasets
from ..utils.checkpoint import checkpoint_to_load, load_checkpoint_safely
from ..utils.config_text import config_inside


def check_weights(runner: Runner, cfg: Config, whole: bool) -> None:
    """Refuse a checkpoint of another network; MMEngine would load what fits and only warn.

    Position embeddings (names with ``pos``) may be missing or have another shape, because many
    networks resize them while loading.

    Args:
        runner: built, not run.
        cfg: its config.
        whole: whether the file must hold the whole network, as for testing; resuming always needs
            that. Otherwise ``load_from`` must fill 90 % of the backbone, and the head may be new.

    Raises:
        ValueError: the checkpoint belongs to another network; names both, and a tensor.
    """
    path, model = checkpoint_to_load(cfg), runner.model
    if isinstance(model, DistributedDataParallel):
        model = model.module
    if path is None or '://' in path or is_model_wrapper(model):  # other wrappers shard the tensors
        return
    checkpoint = load_checkpoint_safely(path, mmap=True)
    state = _floating(checkpoint.get('state_dict', checkpoint))
    expected = _floating(model.state_dict())
    resumed = bool(cfg.get('resume'))
    if not whole and not resumed and any(name.startswith('backbone.') for name in expected):
        expected = {n: t for n, t in expected.items() if n.startswith('backbone.')}
    bad = [n for n, t in expected.items() if n not in state or state[n].shape != t.shape]
    left = [n for n in state if n not in expected] if resumed else []
    most = 0 if whole or resumed else (1 - MIN_SHARE) * len(expected)
    if len(bad) + len(left) <= most:
        return
    name = (bad or left)[0]
    shapes = [tuple(t[name].shape) if name in t else 'missing' for t in (state, expected)]
    theirs, ours = _networks(checkpoint, cfg, path)
    use = (
        'resuming needs the same network'
        if resumed
        else f'{len(bad)} of {len(expected)} tensors differ'
    )
    raise ValueError(
        f'checkpoint {path} belongs to another network{theirs and f" ({theirs})"} than that of the '
        f'config ({ours}): {use}; {name} is {shapes[0]} in the file, {shapes[1]} in the network'
    )


def check_batches(runner: Runner) -> None:
    """Build the training data, and refuse data that does not fill a batch.

    Raises:
        ValueError: there are fewer images than the batch size, and ``drop_last`` is set.
    """
    loop = runner.train_loop
    if not isinstance(loop, EpochBasedTrainLoop) or len(loop.dataloader) > 0:
        return
    loader, dataset = loop.dataloader, loop.dataloader.dataset
    leaf = leaf_datasets(dataset)[0]
    where = getattr(leaf, 'img_prefix', None) or getattr(leaf, 'data_root', None)
    batch_size = loader.batch_size or loader.batch_sampler.batch_size
    for_each = len(loader.sampler)
    share = f' ({for_each} for each of {runner.world_size} processes)'
    repeats = math.ceil(batch_size * runner.world_size / max(len(dataset), 1))
    advice = f', or repeat them (ImageFolder: repeats={repeats})' if len(dataset) else ''
    raise ValueError(
        f'{Path(where) if where else type(leaf).__name__} holds {len(dataset)} images'
        f'{share if runner.world_size > 1 else ""}, fewer than one batch of {batch_size}, and '
        f'drop_last discards smaller batches: set train_dataloader.batch_size to at most '
        f'{max(for_each, 1)}{advice}'
    )


def _floating(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The floating-point tensors of a state dict, without position embeddings."""
    return {
        name.removeprefix('module.'): value
        for name, value in state.items()
        if isinstance(value, Tensor) and value.is_floating_point() and 'pos' not in name
    }


def _networks(checkpoint: dict, cfg: Config, path: str) -> tuple[str, str]:
    """The networks of a checkpoint and of a config, described by what differs."""
    try:
        theirs = config_inside(checkpoint, path).get('model') or {}
    except ValueError:
        theirs = {}
    models = [theirs, cfg.model]
    types = [tuple(_type(part) for part in (m, m.get('backbone'))) for m in models]
    texts = [' with '.join(filter(None, pair)) for pair in types]
    if types[0] != types[1]:
        return texts[0], texts[1]
    backbones = [m.get('backbone') or {} for m in models]
    keys = [k for k in {**backbones[0], **backbones[1]} if k != 'init_cfg']
    differing = [k for k in keys if backbones[0].get(k) != backbones[1].get(k)]
    options = [', '.join(f'{k}={b.get(k)!r}' for k in differing) for b in backbones]
    return tuple(f'{t}({o})' if o else t for t, o in zip(texts, options, strict=True))


def _type(config: Any) -> str | None:
    kind = config.get('type') if isinstance(config, Mapping) else None
    return kind if isinstance(kind, str) or kind is None else kind.__name__
