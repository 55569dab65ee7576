"""Convert a checkpoint: a run's to a clean file for MMPretrain or timm, or timm's to MMPretrain.

convert_checkpoint.py CHECKPOINT OUT.pth
convert_checkpoint.py CHECKPOINT OUT.safetensors --to timm --model NAME
convert_checkpoint.py CHECKPOINT OUT.pth --from timm --model NAME
"""

import argparse
import sys
from pathlib import Path

from mmengine.config import DictAction

from mmebm.cli.parser import OneLineParser
from mmebm.conversion.files import from_timm_file, to_mmpretrain_file, to_timm_file


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = OneLineParser(
        description='Convert a checkpoint between MMPretrain and timm. The file is only written if '
        'both networks give the same outputs for random images.',
    )
    parser.add_argument('checkpoint', help='local file')
    parser.add_argument('out', help='OUT.pth for MMPretrain, OUT.safetensors for timm')
    libraries = ['mmpretrain', 'timm']
    parser.add_argument(
        '--from',
        dest='source',
        choices=libraries,
        default='mmpretrain',
        help='library that CHECKPOINT is from: mmpretrain (default, also our runs), or timm',
    )
    parser.add_argument(
        '--to',
        dest='target',
        choices=libraries,
        default='mmpretrain',
        help='library that OUT is for; defaults to mmpretrain',
    )
    parser.add_argument(
        '--model',
        metavar='NAME',
        help="timm's name; without it, --to timm lists the names that fit",
    )
    parser.add_argument(
        '--model-kwargs',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help='further arguments of timm.create_model, for sizes that no name has',
    )
    parser.add_argument('--config', help='config of the run; defaults to the one in the checkpoint')
    parser.add_argument('--overwrite', action='store_true', help='replace OUT if it exists')
    args = parser.parse_args(argv)
    if args.source == args.target == 'timm':
        parser.error('--from timm --to timm converts nothing')
    if args.source == 'timm' and args.config:
        parser.error('--config is for checkpoints of our runs, not for --from timm')
    if 'timm' not in (args.source, args.target) and (args.model or args.model_kwargs):
        parser.error('--model and --model-kwargs are for --to timm and --from timm')
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    paths = dict(checkpoint=args.checkpoint, out=args.out, overwrite=args.overwrite)
    timm_model = dict(model=args.model, model_kwargs=args.model_kwargs)
    try:
        if args.source == 'timm':
            done = from_timm_file(**paths, **timm_model)
        elif args.target == 'timm':
            done = to_timm_file(**paths, **timm_model, config=args.config)
        else:
            done = to_mmpretrain_file(**paths, config=args.config)
    except (OSError, ValueError, TypeError) as error:
        print(f'convert_checkpoint.py: {error}', file=sys.stderr)
        return 2
    classes = f', {done.num_classes} classes' if done.num_classes else ''
    size = Path(args.out).expanduser().stat().st_size / 1e6
    print(f'wrote {args.out}: {done.num_tensors} tensors{classes}, {size:.1f} MB')
    print(f'left behind: {", ".join(done.left_behind) or "nothing"}')
    print(f'largest difference of the outputs on random images: {done.difference:.1e} (float64)')
    print('to load it:')
    for line in done.usage:
        print(f'  {line}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
