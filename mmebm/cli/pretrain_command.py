"""Pretrain a backbone on a folder of images, without labels and without a decoder.

mmebm pretrain photos/ --backbone timm/convnext_atto --out out/photos --hours 2
mmebm pretrain photos/ more/ --backbone mmpretrain/ConvNeXt --out out/both --epochs 100
mmebm pretrain list.txt --backbone timm/resnet18 --out out/list --hours 8 --gpus 4

In the folder of --out it leaves the backbone, for timm or MMPretrain; report.html; checkpoint.pth,
for `mmebm restore` and `mmebm score` (not with --energy inpainting); and config.py, with which
tools/train.py repeats the run. An interrupted run continues with the same command.
"""

import argparse
import gc
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

PORT = '29500'  # of the first machine, unless given
THREADS = '1'  # of each of several processes, unless OMP_NUM_THREADS says otherwise
# Ctrl-C ends it without a stack trace while it imports, which takes seconds
WORKER = (
    'from signal import *; getsignal(SIGINT) is SIG_IGN or signal(SIGINT, SIG_DFL); '
    'from mmebm.cli import pretrain_worker; pretrain_worker.start()'
)
GO_ON = 'run the same command again to continue'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'data',
        nargs='+',
        metavar='DATA',
        help='folder of images, at any depth and without labels; or text file with a path per '
        'line; or hf:NAME, a data set of Hugging Face',
    )
    parser.add_argument(
        '--backbone',
        required=True,
        metavar='NAME',
        help='timm/NAME, mmpretrain/NAME (a model or a class), or a config file',
    )
    parser.add_argument('--out', required=True, metavar='FOLDER', help='for all that is written')
    parser.add_argument('--start', metavar='FILE', help='initial weights (default: random)')
    length = parser.add_argument_group(
        'how long', 'at most one of these (default: 100 epochs)'
    ).add_mutually_exclusive_group()
    length.add_argument('--hours', type=float, help='in all, fitted to the measured speed')
    length.add_argument('--epochs', type=int, help='passes over the images')
    length.add_argument(
        '--iterations', type=int, help='updates of the weights; above 200 in whole rounds'
    )
    what = parser.add_argument_group('what is learnt')
    what.add_argument(
        '--image-size',
        type=int,
        metavar='PIXELS',
        help="of the sides (default: the backbone's own)",
    )
    what.add_argument(
        '--energy',
        default='restoration',
        choices=['restoration', 'inpainting'],
        help="the paper's, of whole images (default); or of masked patches, for the features of a "
        'ViT',
    )
    what.add_argument(
        '--corruption',
        choices=['mixed', 'masking', 'super-resolution', 'denoising', 'colorization'],
        help='that is restored (default: mixed)',
    )
    what.add_argument(
        '--steps',
        type=int,
        default=1,
        metavar='N',
        help="descent steps (default: 1; the paper's 2 take twice as long)",
    )
    what.add_argument(
        '--keep-batch-norm', action='store_true', help='do not replace batch norms by group norms'
    )
    what.add_argument(
        '--held-out', type=int, metavar='N', help='images for validation only (default: 5 %%)'
    )
    what.add_argument(
        '--seed', type=int, default=0, help='of weights, order and corruptions (default: 0)'
    )
    chosen = parser.add_argument_group('chosen by trying, unless given')
    chosen.add_argument('--batch-size', type=int, metavar='N', help='images per process')
    chosen.add_argument(
        '--lr', type=float, help='learning rate (default: 1e-3 × batch / 32, at most 1e-3)'
    )
    chosen.add_argument(
        '--precision', choices=['float32', 'bfloat16', 'float16'], help='of the forward pass'
    )
    chosen.add_argument('--workers', type=int, metavar='N', help='processes that load images')
    chosen.add_argument(
        '--compile',
        action=argparse.BooleanOptionalAction,
        default=None,
        help='the training step, by torch.compile',
    )
    several = parser.add_argument_group('several GPUs, or processes on a machine without one')
    several.add_argument('--gpus', type=int, metavar='N', help='GPUs of this machine (default: 1)')
    several.add_argument('--nnodes', type=int, metavar='N', help='machines; srun tells it')
    several.add_argument('--node-rank', type=int, metavar='I', help='this one, from 0')
    several.add_argument('--rendezvous', metavar='HOST:PORT', help='of the first machine')


def run(args: argparse.Namespace) -> int:
    import torch

    from ..apis import pretraining

    together = machines(args, os.environ)
    if torch.cuda.is_available() and together.gpus > torch.cuda.device_count():
        raise ValueError(f'--gpus {together.gpus}: this machine has {torch.cuda.device_count()}')
    processes = together.gpus * together.nnodes

    def say(line: str) -> None:
        print(line, file=sys.stderr)

    def train(config) -> None:
        _train_together(config, together)

    def train_first(config) -> None:
        with pretraining.lead(config.work_dir, together.start):
            train(config)

    if together.node_rank > 0:  # the first machine chooses, and writes what is learnt
        pretraining.follow(args.out, train, say, together.start)
        return 0
    if processes > 1 and 'OMP_NUM_THREADS' not in os.environ:
        torch.set_num_threads(int(THREADS))  # those who train have as many as the trial
    pretraining.pretrain(
        args.data,
        args.backbone,
        args.out,
        hours=args.hours,
        epochs=args.epochs,
        iterations=args.iterations,
        start=args.start,
        image_size=args.image_size,
        energy=args.energy,
        corruption=args.corruption,
        num_steps=args.steps,
        keep_batch_norm=args.keep_batch_norm,
        batch_size=args.batch_size,
        learning_rate=args.lr,
        precision=args.precision,
        workers=args.workers,
        compile_step=args.compile,
        held_out=args.held_out,
        seed=args.seed,
        processes=processes,
        say=say,
        train=None if processes == 1 else train_first,
    )
    return 0


class Machines(NamedTuple):
    """How many processes train on which machines.

    Attributes:
        gpus: processes on each machine.
        nnodes: machines.
        node_rank: this one, from 0.
        rendezvous: ``HOST:PORT`` of the first one; None for one machine.
        start: tells this start from others, on all machines; empty without ``srun``.
    """

    gpus: int
    nnodes: int
    node_rank: int
    rendezvous: str | None
    start: str = ''


def machines(args: argparse.Namespace, environment: Mapping[str, str]) -> Machines:
    """What the options say; without them what ``srun`` does, which starts a task on each machine.

    Raises:
        ValueError: an option is out of range or missing, or ``srun`` starts several tasks on a
            machine.
    """
    from ..utils import checked_int
    from .launch import first_host

    gpus, nnodes, rank, rendezvous = args.gpus, args.nnodes, args.node_rank, args.rendezvous
    start = ''
    nodes, tasks = (environment.get(f'SLURM_STEP_NUM_{x}') for x in ('NODES', 'TASKS'))
    if nodes is not None and nnodes is None:
        if tasks != nodes:
            raise ValueError(
                f'srun starts {tasks} tasks on {nodes} machines, but one each is needed, which '
                'starts a process for each GPU: srun --ntasks-per-node 1'
            )
        if gpus is None:
            gpus = int(environment.get('SLURM_GPUS_ON_NODE', 1))
        nnodes, rank = int(nodes), int(environment['SLURM_NODEID'])
        names = ('SLURM_JOB_ID', 'SLURM_STEP_ID', 'SLURM_RESTART_COUNT')
        start = '.'.join(environment.get(name, '0') for name in names)
        if nnodes > 1 and rendezvous is None:
            rendezvous = f'{first_host(environment["SLURM_STEP_NODELIST"])}:{PORT}'
    gpus = checked_int('--gpus', 1 if gpus is None else gpus, minimum=1)
    nnodes = checked_int('--nnodes', 1 if nnodes is None else nnodes, minimum=1)
    rank = checked_int('--node-rank', 0 if rank is None else rank, minimum=0)
    if rank >= nnodes:
        raise ValueError(f'--node-rank must be below --nnodes {nnodes}, got {rank}')
    if nnodes > 1 and rendezvous is None:
        raise ValueError('--nnodes needs --rendezvous HOST:PORT, of the first machine')
    return Machines(gpus, nnodes, rank, rendezvous if nnodes > 1 else None, start)


def workers(together: Machines) -> list[dict[str, str]]:
    """The variables of each process of this machine, as torchrun would set them."""
    if together.rendezvous is None:
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            host, port = '127.0.0.1', str(free.getsockname()[1])
    else:
        host, _, port = together.rendezvous.partition(':')
    first = together.node_rank * together.gpus
    numbers = dict(WORLD_SIZE=together.gpus * together.nnodes, LOCAL_WORLD_SIZE=together.gpus)
    found = []
    for i in range(together.gpus):
        ranks = {k: str(v) for k, v in dict(numbers, RANK=first + i, LOCAL_RANK=i).items()}
        found.append(dict(ranks, MASTER_ADDR=host, MASTER_PORT=port or PORT))
    return found


def start_worker(out: str, variables: Mapping[str, str]) -> subprocess.Popen:
    """Start a process that trains the run in a folder.

    Ctrl-C does not reach its session, and it ends when its input does, also if this process is
    killed.
    """
    command = [sys.executable, '-c', WORKER, out]
    environment = dict(os.environ, **variables)
    environment.setdefault('OMP_NUM_THREADS', THREADS)
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, start_new_session=True)


def _train_together(config, together: Machines) -> None:
    import torch

    from .group import run_together

    gc.collect()
    torch.cuda.empty_cache()  # of what the trial took on the first GPU
    starts = [partial(start_worker, config.work_dir, each) for each in workers(together)]
    status = run_together(starts)
    if status:
        sys.exit(status)
