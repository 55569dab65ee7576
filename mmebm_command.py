"""Where the command ``mmebm`` starts: outside the package, because importing that takes seconds.

Help, and a mistake in the command line, need only the options, in ``mmebm/cli``.
"""

import sys
from importlib.util import find_spec, module_from_spec


def main() -> int:
    """Run the command and return its exit status; parse it first, without importing torch."""
    sys.modules['mmebm'] = module_from_spec(find_spec('mmebm'))  # found, but not run
    from mmebm.cli.main import check_early, parse

    check_early(parse())
    for name in [n for n in sys.modules if n.split('.')[0] == 'mmebm']:
        del sys.modules[name]
    from mmebm.cli.main import main as run

    return run()
