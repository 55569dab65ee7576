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


def write_noise(folder: Path, classes: dict, number, size=(32, 32), seed=0, name='{:02}.png'):
    """A sub-folder of ``00.png`` to ... for each class: noise from its lowest to its highest."""
    rng = np.random.default_rng(seed)
    for label, values in classes.items():
        (folder / label).mkdir(parents=True)
        for i in range(number):
            pixels = rng.integers(*values, (*size[::-1], 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / name.format(i))
    return folder


def write_images(folder: Path, number: int, side: int = 40, seed: int = 0) -> list[Path]:
    """Smooth random pictures, ``0000.png`` to ..."""
    folder.mkdir(parents=True)
    rng, paths = np.random.default_rng(seed), []
    for index in range(number):
        coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        paths.append(folder / f'{index:04d}.png')
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(paths[-1])
    return paths
