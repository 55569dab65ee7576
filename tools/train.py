"""Train the model of a config.

    python tools/train.py CONFIG --work-dir work_dirs/first
    python tools/train.py CONFIG --resume        # continue from the last checkpoint in the work dir
    python tools/train.py CONFIG --cfg-options train_dataloader.batch_size=64

Several GPUs: tools/dist_train.sh, tools/slurm_train.sh.
"""

import argparse
from collections.abc import Sequence

from mmengine.config import Config

# importing mmebm registers its parts, even for a config without custom_imports
from mmebm.cli.errors import one_line_errors
from mmebm.cli.launch import add_common_arguments, load_config
from mmebm.cli.parser import OneLineParser
from mmebm.engine.hooks import check_pretrained_backbone
from mmebm.engine.runner import check_batches, check_weights, close_process_group, runner_of


def build_parser() -> argparse.ArgumentParser:
    parser = OneLineParser(description='Train the model of a config.')
    parser.add_argument('config', help='the config file')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='PATH',
        help='continue from this checkpoint; without PATH (or with "auto") from the last one in '
        'the work dir, or from the start if there is none',
    )
    parser.add_argument('--amp', action='store_true', help='train in mixed precision')
    parser.add_argument('--no-validate', action='store_true', help='skip the validation')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='multiply the learning rate by the batch size over base_batch_size of the config',
    )
    add_common_arguments(parser)
    return parser


def merge_arguments(cfg: Config, args: argparse.Namespace) -> None:
    """Write the arguments of this tool into the config.

    Raises:
        ValueError: the config lacks what an argument needs.
    """
    if cfg.get('train_dataloader') is None:
        raise ValueError(f'{args.config} has nothing to train on: set train_dataloader')
    if args.resume is not None:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    if args.amp:
        wrapper = cfg.optim_wrapper.get('type', 'OptimWrapper')
        replaced = ('OptimWrapper', 'AmpOptimWrapper', 'MixedPrecisionOptimWrapper')
        if wrapper.split('.')[-1] not in replaced:
            raise ValueError(f'--amp replaces an OptimWrapper, but the config has {wrapper}')
        # with its scope, because MMSegmentation's configs have another default scope
        cfg.optim_wrapper.type = 'mmpretrain.MixedPrecisionOptimWrapper'
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.auto_scale_lr:
        if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
            raise ValueError(
                '--auto-scale-lr needs the batch size that the learning rate was chosen for: '
                'set auto_scale_lr = dict(base_batch_size=...) in the config'
            )
        cfg.auto_scale_lr.enable = True


def main(argv: Sequence[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse_args(argv)
    with one_line_errors(parser.prog, '--resume goes on after the last checkpoint'):
        cfg = load_config(args)
        merge_arguments(cfg, args)
        check_pretrained_backbone(cfg)
        runner = runner_of(cfg)
        check_weights(runner, cfg, whole=bool(cfg.get('resume')))
        check_batches(runner)
        runner.train()
        close_process_group()


if __name__ == '__main__':
    main()
