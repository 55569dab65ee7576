"""Where the configs and tools are: in the installed package, or in the checkout."""

from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def shipped(name: str) -> Path:
    """A file or folder that is shipped beside the package, such as ``configs/small``.

    Its path in ``mmebm/.mim``, where a wheel has it, or in the checkout.

    Raises:
        FileNotFoundError: it is in neither.
    """
    for path in (PACKAGE / '.mim' / name, PACKAGE.parent / name):
        if path.exists():
            return path
    raise FileNotFoundError(f'{name} is missing beside {PACKAGE}: install mmebm again')
