"""Pretrain a backbone on a folder of images, without labels and without a decoder.

mmebm pretrain photos/ --backbone timm/convnext_atto --out out/photos --hours 2
mmebm pretrain photos/ more/ --backbone mmpretrain/ConvNeXt --out out/both --epochs 100
mmebm pretrain list.txt --backbone timm/resnet18 --out out/list --hours 8 --gpus 4

In the folder of --out it leaves the backbone, for timm or MMPretrain; report.html; checkpoint.pth,
for `mmebm restore` and `mmebm score`; and config.py, with which tools/train.py repeats the run. An
interrupted run continues with the same command.
"""

import argparse
import os
import sys
from pathlib import Path

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
    parser.add_argument('--start', metavar='FILE', help='weights to start from; random without')
    length = parser.add_argument_group(
        'how long', 'one of these; 100 epochs without'
    ).add_mutually_exclusive_group()
    length.add_argument('--hours', type=float, help='in all, fitted to the measured speed')
    length.add_argument('--epochs', type=int, help='passes over the images')
    length.add_argument('--iterations', type=int, help='updates of the weights')
    what = parser.add_argument_group('what is learnt')
    what.add_argument('--image-size', type=int, metavar='PIXELS', help="the backbone's own without")
    what.add_argument(
        '--corruption',
        default='mixed',
        choices=['mixed', 'masking', 'super-resolution', 'denoising', 'colorization'],
        help='that is restored; mixed by default',
    )
    what.add_argument(
        '--steps',
        type=int,
        default=1,
        metavar='N',
        help='of descent; 1 by default, 2 in the paper, which takes twice as long',
    )
    what.add_argument(
        '--keep-batch-norm', action='store_true', help='do not replace batch norms by group norms'
    )
    what.add_argument(
        '--held-out', type=int, metavar='N', help='images to validate on; 5 %% without'
    )
    what.add_argument('--seed', type=int, default=0)
    chosen = parser.add_argument_group('chosen by trying, unless given')
    chosen.add_argument('--batch-size', type=int, metavar='N', help='images per process')
    chosen.add_argument(
        '--lr', type=float, help='learning rate; by default 1e-3 × batch / 32, at most 1e-3'
    )
    chosen.add_argument('--precision', choices=['float32', 'bfloat16', 'float16'])
    chosen.add_argument('--workers', type=int, metavar='N', help='processes that load images')
    chosen.add_argument('--compile', action=argparse.BooleanOptionalAction, default=None)
    several = parser.add_argument_group('several GPUs, or processes on a machine without one')
    several.add_argument('--gpus', type=int, default=1, metavar='N', help='of this machine')
    several.add_argument('--nnodes', type=int, default=1, metavar='N', help='machines')
    several.add_argument('--node-rank', type=int, default=0, metavar='I', help='this one, from 0')
    several.add_argument('--rendezvous', metavar='HOST:PORT', help='of the first machine')


def run(args: argparse.Namespace) -> int:
    import torch

    from ..apis.pretraining import pretrain
    from ..utils import checked_int

    gpus = checked_int('--gpus', args.gpus, minimum=1)
    if torch.cuda.is_available() and gpus > torch.cuda.device_count():
        raise ValueError(f'--gpus {gpus}: this machine has {torch.cuda.device_count()}')
    processes = gpus * checked_int('--nnodes', args.nnodes, minimum=1)
    if args.nnodes > 1 and args.rendezvous is None:
        raise ValueError('--nnodes needs --rendezvous HOST:PORT, of the first machine')
    pretrain(
        args.data,
        args.backbone,
        args.out,
        hours=args.hours,
        epochs=args.epochs,
        iterations=args.iterations,
        start=args.start,
        image_size=args.image_size,
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
        say=lambda line: print(line, file=sys.stderr),
        train=None if processes == 1 else lambda config: _train_together(config, args),
    )
    return 0


def _train_together(config, args: argparse.Namespace) -> None:
    """Train in several processes, which torchrun starts."""
    import subprocess

    command = [sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node', str(args.gpus)]
    if args.nnodes > 1:
        host, _, port = args.rendezvous.partition(':')
        command += ['--nnodes', str(args.nnodes), '--node-rank', str(args.node_rank)]
        command += ['--master-addr', host, '--master-port', port or '29500']
    else:
        command.append('--standalone')
    command += ['-m', 'mmebm.cli.pretrain_worker', str(Path(config.work_dir))]
    environment = dict(os.environ)
    environment.setdefault('OMP_NUM_THREADS', '1')
    status = subprocess.run(command, env=environment).returncode
    if status:
        sys.exit(status)
