"""The parser of all command lines."""

import argparse
import re
import sys
from difflib import get_close_matches
from typing import NoReturn

MISTAKE = 2  # exit code, the same as argparse's


class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line that suggests the nearest option."""

    def error(self, message: str) -> NoReturn:
        unknown = re.search(r'unrecognized arguments: (--[\w-]+)', message)
        if unknown:
            options = [o for o in self._option_string_actions if o.startswith('--')]
            near = get_close_matches(unknown[1], options, n=1)
            message += f', the nearest is {near[0]}' if near else ''
        from .errors import print_error  # not for --help: it imports what trains

        print_error(self.prog, message)
        sys.exit(MISTAKE)
