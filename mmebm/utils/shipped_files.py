"""Where the configs and tools are: in the installed package, or in the checkout."""

from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def find_shipped(name: str) -> Path | None:
    """A file or folder that is shipped beside the package, such as ``configs/small``.

    Returns:
        Its path in ``mmebm/.mim``, where a wheel has it, or in the checkout; None if it is in
        neither.
    """
    candidates = (PACKAGE / '.mim' / name, PACKAGE.parent / name)
    return next((path for path in candidates if path.exists()), None)


def shipped(name: str) -> Path:
    """As :func:`find_shipped`.

    Raises:
        FileNotFoundError: it is in neither.
    """
    path = find_shipped(name)
    if path is None:
        raise FileNotFoundError(f'{name} is missing beside {PACKAGE}: install mmebm again')
    return path
