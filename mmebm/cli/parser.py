"""The parser of all command lines."""

import argparse
import re
import sys
from typing import NoReturn

MISTAKE = 2  # exit code, the same as argparse's


class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line that suggests the nearest option or choice."""

    def error(self, message: str) -> NoReturn:
        # not for --help: they import what trains
        from ..utils import nearest_name
        from .errors import print_error

        unknown = re.search(r'unrecognized arguments: (--[\w-]+)', message)
        if unknown:
            options = [o for o in self._option_string_actions if o.startswith('--')]
            message += nearest_name(unknown[1], options)
        choice = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if choice:
            names = re.findall("'(.*?)'", choice[2]) or choice[2].split(', ')  # newer Pythons
            message += nearest_name(choice[1], names)
        print_error(self.prog, message)
        sys.exit(MISTAKE)
