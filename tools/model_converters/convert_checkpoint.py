"""Convert a checkpoint of a run to a clean file for MMPretrain or timm, or for transformers.

convert_checkpoint.py CHECKPOINT OUT.pth
convert_checkpoint.py CHECKPOINT OUT.safetensors --to timm --model NAME
convert_checkpoint.py CHECKPOINT OUT --to transformers
"""

import sys

from mmengine.config import DictAction

from mmebm.cli.errors import one_line_errors
from mmebm.cli.parser import OneLineParser
from mmebm.conversion import to_mmpretrain_file, to_timm_file, to_transformers_folder


def main(argv: list[str] | None = None) -> int:
    parser = OneLineParser(
        description='Convert a checkpoint of a run. The result is only written if both networks '
        'give the same outputs for the same images.',
    )
    parser.add_argument('checkpoint', help='local file')
    parser.add_argument('out', help='OUT.pth, OUT.safetensors for timm, a folder for transformers')
    libraries = ['mmpretrain', 'timm', 'transformers']
    parser.add_argument('--to', choices=libraries, default='mmpretrain',
                        help='library of OUT (default: mmpretrain)')  # fmt: skip
    parser.add_argument('--model', metavar='NAME', help="timm's name of the network")
    parser.add_argument('--model-kwargs', nargs='+', action=DictAction, default={},
                        metavar='KEY=VALUE', help='arguments of timm.create_model')  # fmt: skip
    parser.add_argument('--config', help='config of the run (default: the one in the checkpoint)')
    parser.add_argument('--overwrite', action='store_true', help='replace OUT if it exists')
    args = parser.parse_args(argv)
    if args.to != 'timm' and (args.model or args.model_kwargs):
        parser.error('--model and --model-kwargs are for --to timm')
    convert = dict(mmpretrain=to_mmpretrain_file, transformers=to_transformers_folder).get(args.to)
    given = dict(config=args.config, overwrite=args.overwrite)
    with one_line_errors('convert_checkpoint.py'):
        if convert is None:
            convert, given = (
                to_timm_file,
                given | dict(model=args.model, model_kwargs=args.model_kwargs),
            )
        done = convert(args.checkpoint, args.out, **given)
    classes = f', {done.num_classes} classes' if done.num_classes else ''
    print(f'wrote {args.out}: {done.num_tensors} tensors{classes}')
    print(f'left behind: {", ".join(done.left_behind) or "nothing"}')
    print(f'largest difference of the outputs on random images: {done.difference:.1e} (float64)')
    print('to load it:', *done.usage, sep='\n  ')
    return 0


if __name__ == '__main__':
    sys.exit(main())
