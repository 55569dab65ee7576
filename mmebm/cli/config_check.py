"""Refuse what MMEngine ignores: misspelt keys at the top of a config, options without effect."""

import inspect
from collections.abc import Iterable

from mmengine.config import Config
from mmengine.runner import Runner

from ..utils import nearest_name

# The last are those that MMEngine reads though the runner has no parameter of that name.
RUNNER_KEYS = {*inspect.signature(Runner).parameters, 'activation_checkpointing', 'compile'}
RUNNER_KEYS |= {'custom_imports', 'efficient_conv_bn_eval', 'find_unused_parameters'}
RUNNER_KEYS |= {'model_wrapper_cfg', 'sync_bn'}


def check_config(cfg: Config, options: Iterable[str] = ()) -> None:
    """Refuse keys that the runner does not read; constructors refuse those below the top.

    Args:
        cfg: may have variables of its own, so only a name close to one that is read is refused.
        options: keys of ``--cfg-options``, which change nothing there.

    Raises:
        ValueError: names the key and the nearest that is read.
    """
    for option in options:
        if (name := option.split('.')[0]) not in RUNNER_KEYS:
            near = nearest_name(name, RUNNER_KEYS)
            raise ValueError(f'{option} changes nothing: the runner does not read {name}{near}')
    for name in set(cfg) - RUNNER_KEYS:
        if near := nearest_name(name, RUNNER_KEYS, cutoff=0.92):
            raise ValueError(f'the runner does not read {name}{near}')
