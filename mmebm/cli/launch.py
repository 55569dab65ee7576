"""Shared by ``tools/train.py`` and ``tools/test.py``: from a command line to a runner."""

import argparse
import datetime
import gc
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlparse

import torch
from filelock import FileLock  # torch depends on it
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner
from mmpretrain.registry import MODELS

from ..engine import runner_of
from ..utils.checkpoint import (
    checkpoint_to_load,
    last_checkpoint,
    load_checkpoint_safely,
    newest_sound_checkpoint,
)
from ..utils.quiet import quiet_terminal, quiet_torch
from ..utils.state_dict import fit_of
from .config_check import check_options

# MMPretrain's, for BEiT
TOKENIZER = 'https://mmassets.onedl.ai/mmselfsup/1.x/target_generator_ckpt/dalle_encoder.pth'

# names of RANK, WORLD_SIZE and LOCAL_RANK under launchers other than torchrun
RANKS = {
    'slurm': ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID'),
    'mpi': ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK'),
}


class ConfigOptions(DictAction):
    """MMEngine's action for KEY=VALUE, with a message where MMEngine has only a stack trace."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        try:
            super().__call__(parser, namespace, values, option_string)
        except (AssertionError, ValueError) as error:
            bad = [value for value in values if '=' not in value] or values
            raise argparse.ArgumentError(
                self, f"takes KEY=VALUE, a list as KEY='[a,b]', got {' '.join(bad)}"
            ) from error


def rank_on_machine() -> str:
    """This process among those of the run on this machine; '0' is the one that prints."""
    names = ('LOCAL_RANK', *(variables[2] for variables in RANKS.values()))
    return next((os.environ[name] for name in names if os.environ.get(name)), '0')


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
    # torch.distributed.launch, which mim calls, passes it; torchrun sets the variable instead
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def read_config(path: str | Path, options: dict | None = None) -> Config:
    """A config file with ``--cfg-options`` merged in.

    Raises:
        FileNotFoundError: the config, or one that it inherits from, does not exist.
        ValueError: the file cannot be parsed, or an option does not fit it.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'config {path} does not exist')
    try:
        cfg = Config.fromfile(path)
    except FileNotFoundError:  # of a config that it inherits from
        raise
    except Exception as error:  # a config is user code, which can raise anything
        raise ValueError(f'config {path}: {type(error).__name__}: {error}') from error
    if options:
        check_options(set(cfg), options, cfg)
        try:
            cfg.merge_from_dict(options)
        except (KeyError, TypeError) as error:
            raise ValueError(f'--cfg-options does not fit the config: {error}') from error
    return cfg


def load_config(args: argparse.Namespace) -> Config:
    """The config file with the common arguments merged in; raises as :func:`read_config`."""
    cfg = read_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs', Path(args.config).stem))
    return cfg


def check_checkpoint(cfg: Config) -> None:
    """Check the checkpoint that the runner will load, before anything is built.

    A run that is to go on from the last one in its work dir goes on from the one before, with a
    warning, where the last one cannot be read. The config then names it.

    Raises:
        FileNotFoundError: it does not exist.
        ValueError: it would run code, is damaged, or is not a checkpoint.
    """
    if cfg.get('resume') and cfg.get('load_from') is None:
        found = newest_sound_checkpoint(cfg.work_dir)
        if found.path != last_checkpoint(cfg.work_dir):
            cfg.load_from = found.path
            reason = '; '.join(found.passed_over) or 'last_checkpoint names none'
            _warn(f'going on from {found.path}: {reason}')
        return
    checkpoint = checkpoint_to_load(cfg)
    if checkpoint is not None and '://' not in checkpoint:
        load_checkpoint_safely(checkpoint, mmap=True)


def check_work_dir(cfg: Config) -> None:
    """Check that the work dir is writable or can be created, without creating it.

    Raises:
        ValueError: it is neither.
    """
    if not cfg.work_dir:
        raise ValueError('work_dir is empty: name a folder')
    work_dir = Path(cfg.work_dir).absolute()
    there = next(path for path in (work_dir, *work_dir.parents) if os.path.lexists(path))
    if not there.is_dir():
        raise ValueError(f'work_dir {cfg.work_dir} cannot be created: {there} is not a folder')
    if not os.access(there, os.W_OK | os.X_OK):
        what = 'written to' if there == work_dir else 'created'
        raise ValueError(f'work_dir {cfg.work_dir} cannot be {what}: no permission in {there}')


def check_tokenizer(cfg: Config) -> None:
    """Check the weights of the frozen tokenizer that BEiT learns from; a URL is downloaded first.

    MMEngine would keep random weights for tensors that the file lacks. Afterwards the config names
    the local file.

    Raises:
        ValueError: the weights are missing, cannot be downloaded, are refused as unsafe, or belong
            to another network. Says what to download, and how to name the file.
    """
    tokenizer = (cfg.get('model') or {}).get('target_generator') or {}
    init_cfg = tokenizer.get('init_cfg') or {}
    checkpoint = init_cfg.get('checkpoint') if isinstance(init_cfg, dict) else None
    if checkpoint is None:
        return
    scheme = urlparse(checkpoint).scheme
    try:
        if scheme in ('http', 'https'):
            init_cfg.checkpoint = _download(checkpoint)
        elif scheme:
            return  # MMEngine's other storages
        weights = load_checkpoint_safely(init_cfg.checkpoint, mmap=True)
        weights = weights.get('state_dict', weights)
        weights = {name.removeprefix('module.'): value for name, value in weights.items()}
        fit = fit_of(MODELS.build(tokenizer), weights)
        if fit.share < 1:  # a file may hold more than the tokenizer needs
            raise ValueError(f'{init_cfg.checkpoint} does not fit: {fit.differences}')
    except (OSError, ValueError) as error:
        url = checkpoint if scheme else TOKENIZER
        raise ValueError(
            f"the weights of this method's tokenizer ({tokenizer.type}) cannot be loaded: "
            f'{error}. Download {url} on a machine with internet access, and name the file: '
            '--cfg-options model.target_generator.init_cfg.checkpoint=PATH'
        ) from error


def _download(url: str) -> str:
    """Download a file once per machine, into the cache of torch and MMEngine."""
    path = Path(torch.hub.get_dir(), 'checkpoints', Path(urlparse(url).path).name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f'{path}.lock'):  # only the first of several processes downloads
        if not path.is_file():
            try:
                torch.hub.download_url_to_file(url, str(path))
            except (OSError, RuntimeError) as error:
                raise OSError(f'{url} cannot be downloaded ({error})') from error
    return str(path)


def build_runner(cfg: Config, local_rank: int) -> Runner:
    """Build the runner that the config describes.

    Raises:
        ValueError: the launcher that the config names did not start this process.
    """
    if cfg.launcher in RANKS:
        _set_ranks(cfg.launcher)
    os.environ.setdefault('LOCAL_RANK', str(local_rank))
    if cfg.launcher != 'none':
        _use_cpu_without_gpu(cfg)
    quiet_torch()
    runner = runner_of(cfg)
    quiet_terminal(runner.logger)  # the messages come during training
    if any(isinstance(h, CheckpointHook) and h.max_keep_ckpts == 1 for h in runner.hooks):
        _warn(
            'with default_hooks.checkpoint.max_keep_ckpts=1 there is no checkpoint while the next '
            'one is written: a run killed at that moment starts from the beginning. Keep 2 or more'
        )
    return runner


def _warn(text: str) -> None:
    if rank_on_machine() == '0':
        print(f'Warning: {text}', file=sys.stderr, flush=True)


def close_process_group() -> None:
    """End a distributed run.

    Without it gloo's threads outlive the interpreter, and occasionally one of them aborts the
    finished process (https://github.com/pytorch/pytorch/issues/190489).
    """
    if torch.distributed.is_initialized():
        gc.collect()  # the runner is a reference cycle, which keeps the model and the group alive
        torch.distributed.destroy_process_group()


def _set_ranks(launcher: str) -> None:
    """Set the variables of torchrun in processes of slurm or Open MPI.

    MMEngine does so for GPUs only, and without the LOCAL_RANK that it reads later.

    Raises:
        ValueError: a variable of the launcher is missing.
    """
    for ours, theirs in zip(('RANK', 'WORLD_SIZE', 'LOCAL_RANK'), RANKS[launcher], strict=True):
        if theirs not in os.environ:
            raise ValueError(f'--launcher {launcher} sets {theirs}, but here it is missing')
        os.environ[ours] = os.environ[theirs]
    os.environ.setdefault('MASTER_PORT', '29500')
    if 'MASTER_ADDR' in os.environ:
        return
    if launcher == 'mpi':
        raise ValueError(
            '--launcher mpi needs the address of the first node: mpirun -x MASTER_ADDR=10.0.0.1 ...'
        )
    os.environ['MASTER_ADDR'] = first_host(os.environ['SLURM_NODELIST'])


def first_host(nodes: str) -> str:
    """The first machine of Slurm's list, such as ``node[01-03]``."""
    command = ['scontrol', 'show', 'hostnames', nodes]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[0]


def _use_cpu_without_gpu(cfg: Config) -> None:
    """Let the processes of a launcher train over gloo on a machine without a GPU."""
    if torch.cuda.is_available():
        return
    # MMEngine selects a GPU before it opens the process group, so it is opened here
    dist_cfg = cfg.setdefault('env_cfg', ConfigDict()).setdefault('dist_cfg', ConfigDict())
    dist_cfg.backend = 'gloo'
    timeout = dist_cfg.get('timeout')
    torch.distributed.init_process_group(
        'gloo', timeout=None if timeout is None else datetime.timedelta(seconds=timeout)
    )
    # otherwise MMEngine passes a GPU's number to its model wrapper
    wrapper = cfg.get('model_wrapper_cfg') or ConfigDict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    cfg.model_wrapper_cfg = ConfigDict(wrapper, device_ids=None)
    cfg.sync_bn = None  # torch's SyncBatchNorm trains on GPUs only
    if torch.distributed.get_rank() == 0:
        print(
            'No GPU found: training on the CPU over gloo instead of nccl, with unsynchronised '
            'batch norm.'
        )
