"""Convert a checkpoint: a run's to a clean file for MMPretrain or timm, or timm's to MMPretrain.

convert_checkpoint.py CHECKPOINT OUT.pth
convert_checkpoint.py CHECKPOINT OUT.safetensors --to timm --model NAME
convert_checkpoint.py CHECKPOINT OUT.pth --from timm --model NAME
"""

import sys

from mmengine.config import DictAction

from mmebm.cli.errors import one_line_errors
from mmebm.cli.parser import OneLineParser
from mmebm.conversion import from_timm_file, to_mmpretrain_file, to_timm_file


def main(argv: list[str] | None = None) -> int:
    parser = OneLineParser(
        description='Convert a checkpoint between MMPretrain and timm. The file is only written if '
        'both networks give the same outputs for the same images.',
    )
    libraries = ['mmpretrain', 'timm']
    parser.add_argument('checkpoint', help='local file')
    parser.add_argument('out', help='OUT.pth for MMPretrain, OUT.safetensors for timm')
    parser.add_argument('--from', dest='source', choices=libraries, default='mmpretrain',
                        help='library of CHECKPOINT (default: mmpretrain)')  # fmt: skip
    parser.add_argument('--to', dest='target', choices=libraries, default='mmpretrain',
                        help='library of OUT (default: mmpretrain)')  # fmt: skip
    parser.add_argument('--model', metavar='NAME', help="timm's name of the network")
    parser.add_argument('--model-kwargs', nargs='+', action=DictAction, default={},
                        metavar='KEY=VALUE', help='arguments of timm.create_model')  # fmt: skip
    parser.add_argument('--config', help='config of the run (default: the one in the checkpoint)')
    parser.add_argument('--overwrite', action='store_true', help='replace OUT if it exists')
    args = parser.parse_args(argv)
    if args.source == args.target == 'timm':
        parser.error('--from timm --to timm converts nothing')
    if args.source == 'timm' and args.config:
        parser.error('--config is for checkpoints of our runs, not for --from timm')
    if 'timm' not in (args.source, args.target) and (args.model or args.model_kwargs):
        parser.error('--model and --model-kwargs are for --to timm and --from timm')
    paths = dict(checkpoint=args.checkpoint, out=args.out, overwrite=args.overwrite)
    timm_model = dict(model=args.model, model_kwargs=args.model_kwargs)
    with one_line_errors('convert_checkpoint.py'):
        if args.source == 'timm':
            done = from_timm_file(**paths, **timm_model)
        elif args.target == 'timm':
            done = to_timm_file(**paths, **timm_model, config=args.config)
        else:
            done = to_mmpretrain_file(**paths, config=args.config)
    classes = f', {done.num_classes} classes' if done.num_classes else ''
    print(f'wrote {args.out}: {done.num_tensors} tensors{classes}')
    print(f'left behind: {", ".join(done.left_behind) or "nothing"}')
    print(f'largest difference of the outputs on random images: {done.difference:.1e} (float64)')
    print('to load it:')
    for line in done.usage:
        print(f'  {line}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
