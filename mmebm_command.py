"""Where the command ``mmebm`` starts: outside the package, because importing that takes seconds.

``mmebm --help`` and ``mmebm SUBCOMMAND --help`` read only the options, in ``mmebm/cli``.
"""

import sys
from importlib.util import find_spec, module_from_spec


def main() -> int:
    """Run the command and return its exit status; print help without importing torch."""
    if {'-h', '--help'}.intersection(sys.argv[1:]):
        sys.modules['mmebm'] = module_from_spec(find_spec('mmebm'))  # found, but not run
        from mmebm.cli.main import build_parser

        build_parser().parse_known_args()  # exits, unless --help is the value of an option
        for name in [n for n in sys.modules if n.split('.')[0] == 'mmebm']:
            del sys.modules[name]
    from mmebm.cli.main import main as run

    return run()
