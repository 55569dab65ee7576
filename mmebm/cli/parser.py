"""The parser of all command lines."""

import argparse
import re
import sys
from collections.abc import Callable
from difflib import get_close_matches
from textwrap import fill
from typing import Any, NoReturn

from .errors import MISTAKE, print_error


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Fits paragraphs to the terminal, and leaves examples of commands as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        parts = text.split('\n\n')
        return '\n\n'.join(p if p.startswith('mmebm ') else fill(p, width) for p in parts)

    def _format_usage(self, *args: Any) -> str:
        # argparse breaks no line between options that exclude each other
        lines, wrap = super()._format_usage(*args).splitlines(), dict(subsequent_indent=' ' * 23)
        return ''.join(fill(line, self._width, **wrap) + '\n' for line in lines)


def at_least(minimum: int) -> Callable[[str], int]:
    """The type of an option that is an integer ≥ ``minimum``."""

    def integer(text: str) -> int:
        if not text.lstrip('-').isdecimal() or int(text) < minimum:
            raise argparse.ArgumentTypeError(f'must be an integer ≥ {minimum}, got {text}')
        return int(text)

    return integer


class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line that suggests the nearest option or choice."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        text = 'print the stack trace of an error, too'  # print_error does
        self.add_argument('--traceback', action='store_true', default=argparse.SUPPRESS, help=text)

    def error(self, message: str) -> NoReturn:
        near = []
        if found := re.search(r'unrecognized arguments: (--[\w-]+)', message):
            near = get_close_matches(found[1], self._option_string_actions, n=1)
        elif found := re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message):
            names = re.findall("'(.*?)'", found[2]) or found[2].split(', ')  # newer Pythons
            near = get_close_matches(found[1], names, n=1)
        print_error(self.prog, f'{message}, the nearest is {near[0]}' if near else message)
        sys.exit(MISTAKE)
