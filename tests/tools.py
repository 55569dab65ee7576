"""The command-line tools as modules."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).parent.parent / 'tools'
# messages of other libraries that a user cannot act on
FOREIGN = ('MultiScaleDeformableAttention', 'OneDL', 'FileClient', 'HardDiskBackend', 'CUDA_HOME')


def load_tool(name: str) -> ModuleType:
    """Import ``tools/NAME.py`` afresh."""
    spec = importlib.util.spec_from_file_location(Path(name).name, FOLDER / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def exit_code(main: Callable[[list[str]], int], argv: list[str]) -> int:
    """The exit code of a command, whether it returns or exits."""
    try:
        return main(argv)
    except SystemExit as stop:
        return stop.code
