"""Test a checkpoint on the test set of a config, and print the metrics.

python tools/test.py CONFIG CHECKPOINT
"""

import argparse
from collections.abc import Sequence

# importing mmebm registers its parts, even for a config without custom_imports
from mmebm.cli.errors import one_line_errors
from mmebm.cli.launch import add_common_arguments, load_config
from mmebm.cli.parser import OneLineParser
from mmebm.engine.runner import check_weights, close_process_group, runner_of


def build_parser() -> argparse.ArgumentParser:
    parser = OneLineParser(description='Test a checkpoint on the test set of a config.')
    parser.add_argument('config', help='the config file')
    parser.add_argument('checkpoint', help='the checkpoint file')
    add_common_arguments(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse_args(argv)
    with one_line_errors(parser.prog):
        cfg = load_config(args)
        cfg.resume, cfg.load_from = False, args.checkpoint
        if cfg.get('test_dataloader') is None:
            raise ValueError(
                f'{args.config} has no test set: set test_dataloader, test_cfg and test_evaluator '
                '(for example to those of validation)'
            )
        runner = runner_of(cfg)
        check_weights(runner, cfg, whole=True)
        runner.test()
        close_process_group()


if __name__ == '__main__':
    main()
