"""The command ``mmebm``: one module of this folder per sub-command.

Sub-commands import what they need when they run, so that ``--help`` is quick.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from ..version import __version__
from .errors import one_line_errors
from .parser import HelpFormatter, OneLineParser

# A module has add_arguments(parser) and run(args) → exit status; perhaps check(args), which raises
# what can be told without torch, and GO_ON, how to continue it. Its positional arguments are paths.
COMMANDS = {
    name: import_module(f'{__package__}.{name}_command')
    for name in ('pretrain', 'benchmark', 'restore', 'demo', 'embed')
}


def build_parser() -> argparse.ArgumentParser:
    """All sub-commands with their options."""
    parser = OneLineParser(
        prog='mmebm',
        description='Pretrain a backbone by energy restoration, and use what it learnt.',
    )
    parser.add_argument('--version', action='version', version=__version__)
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    for name, module in COMMANDS.items():
        texts = dict(help=module.__doc__.splitlines()[0], description=module.__doc__)
        command = commands.add_parser(name, formatter_class=HelpFormatter, **texts)
        module.add_arguments(command)
        command.set_defaults(run=module.run, parser=command)
    return parser


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse a command line, or exit, with help or with a line on what is wrong."""
    args, unknown = build_parser().parse_known_args(argv)
    if unknown:  # told by the sub-command, which knows its options
        args.parser.error(f'unrecognized arguments: {" ".join(unknown)}')
    return args


def check_early(args: argparse.Namespace) -> None:
    """Exit with a line on what is wrong with options or paths: before torch is imported."""
    for action in args.parser._get_positional_actions():
        value = getattr(args, action.dest)
        for path in value if isinstance(value, list) else [value]:
            if path is not None and not Path(path).expanduser().exists():
                args.parser.error(f'{action.dest}: no such file or folder: {path}')
    try:
        getattr(COMMANDS[args.command], 'check', lambda _: None)(args)
    except (ValueError, TypeError, OSError) as error:
        args.parser.error(str(error))


def main(argv: Sequence[str] | None = None) -> int:
    """Run a sub-command and return its exit status: 2, with one line, for a mistake of the user."""
    sys.stdout.reconfigure(errors='backslashreplace')  # a file's name may be no text
    args = parse(argv)
    check_early(args)
    go_on = getattr(COMMANDS[args.command], 'GO_ON', '')
    with one_line_errors(f'mmebm {args.command}', go_on):
        return args.run(args)
