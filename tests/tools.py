"""The command-line tools as modules, and pictures for them."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image

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


def write_images(folder: Path, number: int, side: int = 40, seed: int = 0) -> list[Path]:
    """Smooth random pictures, ``0000.png`` to ..."""
    folder.mkdir(parents=True)
    rng, paths = np.random.default_rng(seed), []
    for index in range(number):
        coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        paths.append(folder / f'{index:04d}.png')
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(paths[-1])
    return paths
