"""Load checkpoint files without running code that they may contain.

A checkpoint is a pickle, and unpickling calls whatever functions the file names. MMEngine's own
loader tries torch's restricted unpickler first, but falls back to the unrestricted one with a
warning, and lets files call ``getattr``, through which a crafted file reaches ``exec``. Here a file
may name tensors, numpy's numbers and arrays, and MMEngine's ``HistoryBuffer``, which is what
``Runner.save_checkpoint`` writes; anything else is refused.
"""

import argparse
import codecs
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from urllib.parse import urlparse

import numpy as np
import torch
from filelock import FileLock  # torch depends on it
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.serialization import add_safe_globals, clear_safe_globals, get_safe_globals


class DamagedCheckpointError(ValueError):
    """A file that cannot be read as a checkpoint, and names no function that reading would call."""


def load_checkpoint_safely(
    path: str | Path, map_location: str | torch.device | None = 'cpu', mmap: bool = False
) -> dict[str, Any]:
    """Load a local checkpoint that contains nothing but data.

    Args:
        path: the file; one that ends in ``.safetensors`` is read as such.
        map_location: as in ``torch.load``.
        mmap: leave the tensors on disk until they are read; not for a file that may be overwritten.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedCheckpointError: the file is damaged or not a checkpoint.
        ValueError: the file would run code, or fill the memory.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'checkpoint {path} does not exist')
    if path.suffix == '.safetensors':  # cannot hold code
        try:
            return load_file(path, device=str(map_location or 'cpu'))
        except SafetensorError as error:
            raise DamagedCheckpointError(_damaged(path, error)) from error
    mmap = mmap and zipfile.is_zipfile(path)  # older files cannot be memory-mapped
    _check_expansion(path)
    try:
        with warnings.catch_warnings(), _only_these_globals(_harmless_globals()):
            warnings.simplefilter('ignore')  # of the protocol of a pickle, which is refused
            checkpoint = torch.load(
                str(path), map_location=map_location, weights_only=True, mmap=mmap
            )
    except Exception as error:  # damaged bytes can make the unpickler raise anything
        raise _explained(path, error) from error
    if not isinstance(checkpoint, dict):
        raise DamagedCheckpointError(
            f'{path} is not a checkpoint: it holds a {type(checkpoint).__name__}, no dict'
        )
    return checkpoint


def newest_sound_checkpoint(work_dir: str | Path) -> tuple[str | None, list[str]]:
    """The newest checkpoint of a run that can be read, if any, and why newer ones cannot.

    Raises:
        FileNotFoundError, DamagedCheckpointError: there is none, of those named or found.
        ValueError: the newest would run code. Nothing is taken in its place.
    """
    pointer = Path(work_dir, 'last_checkpoint')  # MMEngine's
    last = (pointer.read_text('utf-8').strip() or None) if pointer.is_file() else None
    if last is not None and '://' in last:
        return last, []
    folder = Path(last).parent if last else Path(work_dir)
    numbered = [f for f in folder.glob('*.pth') if re.fullmatch(r'(epoch|iter)_\d+', f.stem)]
    numbered.sort(key=lambda file: int(file.stem.split('_')[1]), reverse=True)
    errors = []
    for path in dict.fromkeys([*filter(None, [last]), *map(str, numbered)]):
        try:
            load_checkpoint_safely(path, mmap=True)
        except (FileNotFoundError, DamagedCheckpointError) as error:
            errors.append(error)
        else:
            return path, [str(error) for error in errors]
    if errors:
        raise errors[0]
    return None, []


def register_safe_loader() -> None:
    """Make MMEngine load files and URLs with :func:`load_checkpoint_safely` in this process."""
    CheckpointLoader.register_scheme('', load_from_local, force=True)
    CheckpointLoader.register_scheme(('http://', 'https://'), load_from_url, force=True)


# MMEngine takes the backend's name in its log line from this function's
def load_from_local(filename: str, map_location: str | torch.device | None) -> dict[str, Any]:
    return load_checkpoint_safely(filename, map_location)


def load_from_url(filename: str, map_location: str | torch.device | None) -> dict[str, Any]:
    """Load a file that is downloaded once per machine, into torch's cache."""
    path = Path(torch.hub.get_dir(), 'checkpoints', Path(urlparse(filename).path).name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f'{path}.lock'):  # only the first of several processes downloads
        if not path.is_file():
            try:
                torch.hub.download_url_to_file(filename, str(path))
            except (OSError, RuntimeError) as error:
                raise ValueError(
                    f'{filename} cannot be downloaded ({error}): name a file in its place'
                ) from error
    return load_checkpoint_safely(path, map_location)


def _explained(path: Path, error: Exception) -> ValueError:
    if isinstance(error, UnpicklingError):
        name = re.search(r'GLOBAL (\S+)|unrecognized function (.+)|REFUSED (.+)', str(error))
        if name is not None:
            return ValueError(
                f'{path} is refused: it is a pickle that names '
                f'{next(filter(None, name.groups()))}, and loading it could run code. If you trust '
                'its origin, save it again as torch.save(dict(state_dict=...))'
            )
    return DamagedCheckpointError(_damaged(path, error))


def _damaged(path: Path, error: Exception) -> str:
    # torch's text begins with the advice to load the file unsafely
    text = str(error)
    reason = re.search(r'(?<=WeightsUnpickler error: )\s*.+', text) or re.search(r'.+', text)
    reason = reason[0].strip() if reason else type(error).__name__
    return f'{path} is damaged, incomplete or not a checkpoint ({reason}); copy it again'


def _check_expansion(path: Path) -> None:
    """Refuse a zip file that unpacks to more than itself, as a few kB may to any number of GB."""
    unpacked = 0
    with suppress(zipfile.BadZipFile, NotImplementedError), zipfile.ZipFile(path) as archive:
        unpacked = sum(item.file_size for item in archive.infolist())
    if unpacked > path.stat().st_size:
        raise ValueError(
            f'{path} is refused: {path.stat().st_size:,} bytes that would unpack to {unpacked:,}; '
            'torch.save does not compress'
        )


def _harmless_globals() -> list[Callable]:
    """What a checkpoint of MMEngine's runner names beyond tensors."""
    # numpy 2 moved these two, and a file may come from either version
    reconstruct = np.zeros(0).__reduce__()[0]
    scalar = np.float64(0).__reduce__()[0]
    functions = [
        _under_name(function, f'{core}.multiarray', name)
        for core in ('numpy.core', 'numpy._core')
        for name, function in (('_reconstruct', reconstruct), ('scalar', scalar))
    ]
    # torch pickles a method as getattr(class, name); the real getattr reaches everything
    functions.append(_under_name(_history_buffer_method, 'builtins', 'getattr'))
    dtypes = {type(np.dtype(code)) for code in '?bhilqBHILQefd'}
    # pickles hold bytes as encoded text; torch 2.4 does not allow it by default
    functions.append(codecs.encode)
    # DINO's and MAE's files hold the options of their command
    functions.append(argparse.Namespace)
    return [*functions, HistoryBuffer, np.ndarray, np.dtype, slice, *dtypes]


def _history_buffer_method(owner: Any, name: Any) -> Callable:
    if owner is HistoryBuffer and name in ('min', 'max', 'current', 'mean'):
        return getattr(owner, name)
    raise UnpicklingError(f'REFUSED getattr({owner!r}, {name!r})')


def _under_name(function: Callable, module: str, name: str) -> Callable:
    """A function that the unpickler finds as ``module.name``."""

    def renamed(*args: Any) -> Any:
        return function(*args)

    renamed.__module__, renamed.__name__, renamed.__qualname__ = module, name, name
    return renamed


@contextmanager
def _only_these_globals(allowed: list[Callable]) -> Iterator[None]:
    # torch's list is global to the process; what others added to it is not allowed here
    before = get_safe_globals()
    clear_safe_globals()
    add_safe_globals(allowed)
    try:
        yield
    finally:
        clear_safe_globals()
        add_safe_globals(before)
