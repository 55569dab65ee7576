"""The command-line tools as modules."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).parent.parent / 'tools'
# in what other libraries say and a user cannot act on
FOREIGN = ('MultiScaleDeformableAttention', 'OneDL', 'FileClient', 'HardDiskBackend', 'CUDA_HOME')


def load_tool(name: str) -> ModuleType:
    """``tools/NAME.py``, imported anew."""
    spec = importlib.util.spec_from_file_location(Path(name).name, FOLDER / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def exit_code(main: Callable[[list[str]], int], argv: list[str]) -> int:
    """What a command ends with, whether it returns it or exits."""
    try:
        return main(argv)
    except SystemExit as stop:
        return stop.code
