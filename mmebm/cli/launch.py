"""Shared by ``tools/train.py`` and ``tools/test.py``: from a command line to a config."""

import argparse
import inspect
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.runner import Runner

from ..utils import nearest_name
from .errors import rank_on_machine

# The last are those that MMEngine reads though the runner has no parameter of that name.
RUNNER_KEYS = {*inspect.signature(Runner).parameters, 'activation_checkpointing', 'compile'}
RUNNER_KEYS |= {'custom_imports', 'efficient_conv_bn_eval', 'find_unused_parameters'}
RUNNER_KEYS |= {'model_wrapper_cfg', 'sync_bn'}


class ConfigOptions(DictAction):
    """MMEngine's action for KEY=VALUE, with a message where MMEngine has only a stack trace."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        try:
            super().__call__(parser, namespace, values, option)
        except (AssertionError, ValueError, RecursionError) as error:  # the last of dict(...)
            text = f"takes OUTER.INNER=VALUE, VALUE or '[a,b]', got {' '.join(values)}"
            raise argparse.ArgumentError(self, text) from error


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('--work-dir', help='folder for logs and checkpoints')
    help = 'what started the processes of a distributed run'
    add('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help=help)
    help = "override entries of the config: key=value, key='[a,b]', outer.inner=value"
    add('--cfg-options', nargs='+', action=ConfigOptions, metavar='KEY=VALUE', help=help)
    # torch.distributed.launch, which mim calls, passes it, and sets the variable that is read
    add('--local_rank', '--local-rank', type=int, help=argparse.SUPPRESS)


def read_config(path: str | Path, options: dict[str, Any] | None = None) -> Config:
    """A config file with ``--cfg-options`` merged in; FileNotFoundError, or ValueError if wrong."""
    if not Path(path).is_file():
        raise FileNotFoundError(f'config {path} does not exist')
    try:
        cfg = Config.fromfile(path)
    except Exception as error:  # a config is user code, which can raise anything
        raise ValueError(f'config {path}: {type(error).__name__}: {error}') from error
    check_keys(cfg, options or ())
    try:
        cfg.merge_from_dict(options or {})
    except (KeyError, TypeError) as error:
        raise ValueError(f'--cfg-options does not fit the config: {error}') from error
    return cfg


def check_keys(cfg: Config, options: Iterable[str] = ()) -> None:
    """Refuse ``--cfg-options`` that the runner does not read, by a ValueError with the nearest one.

    ``cfg`` may have variables of its own: only a name close to one that is read is refused.
    """
    for option in options:
        if (name := option.split('.')[0]) not in RUNNER_KEYS:
            near = nearest_name(name, RUNNER_KEYS)
            raise ValueError(f'{option} changes nothing: the runner does not read {name}{near}')
    for name in set(cfg) - RUNNER_KEYS:
        if near := nearest_name(name, RUNNER_KEYS, cutoff=0.92):
            raise ValueError(f'the runner does not read {name}{near}')


def load_config(args: argparse.Namespace) -> Config:
    """The config file with the common arguments merged in; raises as :func:`read_config`."""
    cfg = read_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    os.environ.setdefault('LOCAL_RANK', rank_on_machine())  # MMEngine reads it under Open MPI, too
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or f'work_dirs/{Path(args.config).stem}'
    return cfg
