"""Shared by ``tools/train.py`` and ``tools/test.py``: from a command line to a config."""

import argparse
import os
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock  # torch depends on it
from mmengine.config import Config, DictAction
from mmpretrain.registry import MODELS

from ..utils.checkpoint import load_checkpoint_safely
from ..utils.state_dict import fit_of
from .config_check import check_config
from .errors import rank_on_machine

# MMPretrain's, for BEiT
TOKENIZER = 'https://mmassets.onedl.ai/mmselfsup/1.x/target_generator_ckpt/dalle_encoder.pth'


class ConfigOptions(DictAction):
    """MMEngine's action for KEY=VALUE, with a message where MMEngine has only a stack trace."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        try:
            super().__call__(parser, namespace, values, option)
        except (AssertionError, ValueError) as error:
            text = f"takes KEY=VALUE or KEY='[a,b]', got {' '.join(values)}"
            raise argparse.ArgumentError(self, text) from error


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--work-dir', help='folder for logs and checkpoints')
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what started the processes of a distributed run',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=ConfigOptions,
        metavar='KEY=VALUE',
        help="override entries of the config: key=value, key='[a,b]', outer.inner=value",
    )
    # torch.distributed.launch, which mim calls, passes it, and sets the variable that is read
    parser.add_argument('--local_rank', '--local-rank', type=int, help=argparse.SUPPRESS)


def read_config(path: str | Path, options: dict[str, Any] | None = None) -> Config:
    """A config file with ``--cfg-options`` merged in.

    Raises:
        FileNotFoundError: the config, or one that it inherits from, does not exist.
        ValueError: the file cannot be parsed, has a misspelt key, or an option does not fit it.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'config {path} does not exist')
    try:
        cfg = Config.fromfile(path)
    except Exception as error:  # a config is user code, which can raise anything
        raise ValueError(f'config {path}: {type(error).__name__}: {error}') from error
    check_config(cfg, options or ())
    try:
        cfg.merge_from_dict(options or {})
    except (KeyError, TypeError) as error:
        raise ValueError(f'--cfg-options does not fit the config: {error}') from error
    return cfg


def load_config(args: argparse.Namespace) -> Config:
    """The config file with the common arguments merged in; raises as :func:`read_config`."""
    cfg = read_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    os.environ.setdefault('LOCAL_RANK', rank_on_machine())  # MMEngine reads it under Open MPI, too
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or f'work_dirs/{Path(args.config).stem}'
    return cfg


def check_tokenizer(cfg: Config) -> None:
    """Download and check the weights of the frozen tokenizer that BEiT learns from.

    MMEngine would unpickle a download whole, and keep random weights for tensors that a file lacks.
    Afterwards the config names the local file.

    Raises:
        ValueError: the weights cannot be had or do not fit. Says how to name a file.
    """
    model = cfg.get('model')
    tokenizer = model.get('target_generator') if isinstance(model, dict) else None
    init_cfg = (tokenizer or {}).get('init_cfg')
    if not isinstance(init_cfg, dict) or 'checkpoint' not in init_cfg:
        return
    try:
        if (source := init_cfg.checkpoint).startswith(('http://', 'https://')):
            path = Path(torch.hub.get_dir(), 'checkpoints', Path(source).name)
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f'{path}.lock'):  # only the first of several processes downloads
                if not path.is_file():
                    torch.hub.download_url_to_file(source, str(path))
            init_cfg.checkpoint = str(path)
        file = load_checkpoint_safely(init_cfg.checkpoint, mmap=True)
        weights = {n.removeprefix('module.'): w for n, w in file.get('state_dict', file).items()}
        fit = fit_of(MODELS.build(tokenizer), weights)
        if fit.share < 1:  # a file may hold more than the tokenizer needs
            raise ValueError(f'{init_cfg.checkpoint} does not fit: {fit.differences}')
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"the weights of this method's tokenizer ({tokenizer.type}) cannot be loaded: {error}. "
            f'Download {TOKENIZER} on a machine with internet access, and name the file: '
            '--cfg-options model.target_generator.init_cfg.checkpoint=PATH'
        ) from error
