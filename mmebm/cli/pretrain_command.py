"""Pretrain a backbone on a folder of images, without labels and without a decoder.

mmebm pretrain photos/ --backbone timm/convnext_atto --out out/a --hours 2
mmebm pretrain a/ b/ --backbone mmpretrain/ConvNeXt --out out/b --epochs 100
mmebm pretrain list.txt --backbone timm/resnet18 --out out/c --hours 8 --gpus 4

Leaves in --out the backbone, for timm or MMPretrain; report.html; config.py,
with which tools/train.py repeats the run; and checkpoint.pth, for `mmebm
restore` (not with --energy inpainting). An interrupted run continues with
the same command. On several machines run on each
torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d \\
    --rdzv-endpoint HOST:29500 -m mmebm pretrain ... (--out on a shared disk)
"""

import argparse
import logging
import os
import signal
import sys
import threading
import time
from dataclasses import asdict

from ..options import add_options, given_options
from ..pretraining.options import PretrainOptions

GO_ON = 'run the same command again to continue'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser, PretrainOptions)
    text = 'processes, each on a GPU, or all on the CPU if there is none (default: 1)'
    parser.add_argument('--gpus', type=int, default=1, metavar='N', help=text)


def check(args: argparse.Namespace) -> None:
    given_options(PretrainOptions, args)


def run(args: argparse.Namespace) -> int:
    options = given_options(PretrainOptions, args)
    import torch

    from ..pretraining.run import pretrain

    if not 1 <= args.gpus <= (torch.cuda.device_count() or args.gpus):
        raise ValueError(f'--gpus must be ≥ 1, and not more than there are, got {args.gpus}')
    if torch.distributed.is_torchelastic_launched():
        threading.Thread(target=_stop_without_torchrun, daemon=True).start()
    elif args.gpus > 1:
        return _run_by_torchrun(args.gpus)
    pretrain(**asdict(options), say=lambda line: print(line, file=sys.stderr))
    return 0


def _run_by_torchrun(processes: int) -> int:
    """Start this command once per process; its exit code."""
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing import api, errors

    logging.disable(logging.ERROR)  # the processes say themselves what is wrong
    os.environ.setdefault('OMP_NUM_THREADS', '1')  # of each, as torchrun sets it
    command = ['--standalone', '--nproc-per-node', str(processes), '-m', 'mmebm', *sys.argv[1:]]
    try:
        torchrun.run(torchrun.parse_args(command))
    except api.SignalException as error:
        return 128 + error.sigval
    except errors.ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        if code < 0:
            why = f'a process was killed by signal {-code}, probably out of memory'
            raise OSError(f'{why}; {GO_ON}') from None
        return code
    return 0


def _stop_without_torchrun() -> None:
    """Stop as on SIGTERM when torchrun is gone: killed, it leaves its processes behind."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)
