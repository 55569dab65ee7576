"""Ways for a process to end itself at a known moment, as SIGKILL from outside ends it."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.hooks import CheckpointHook
from mmengine.optim import OptimWrapper
from mmengine.runner.loops import EpochBasedTrainLoop, ValLoop
from torch.utils.data import get_worker_info
from torch.utils.data._utils.fetch import _MapDatasetFetcher

from mmebm.utils import whole_files
from mmebm.utils.whole_files import WholeFilesBackend


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_a_worker(*_: Any, **__: Any) -> None:
    if get_worker_info() is not None:
        die()


def half_written(backend: WholeFilesBackend, obj: bytes, filepath: str) -> None:
    path = Path(filepath)
    path.with_name(f'.{path.name}.unfinished').write_bytes(obj[: len(obj) // 2])
    die()


def pointer_emptied(hook: CheckpointHook, runner: Any, *_: Any, **__: Any) -> None:
    Path(runner.work_dir, 'last_checkpoint').write_text('')
    die()


# moment → owner and name of the function, what takes its place, and whether that comes after it
MOMENTS: dict[str, tuple[Any, str, Callable, bool]] = {
    'iteration': (EpochBasedTrainLoop, 'run_iter', die, False),
    'update': (OptimWrapper, 'step', die, False),
    'validation': (ValLoop, 'run_iter', die, False),
    'half of a file': (WholeFilesBackend, 'put', half_written, False),
    'file not on disk': (whole_files.os, 'fsync', die, False),
    'file without name': (whole_files.os, 'replace', die, False),
    'file named': (WholeFilesBackend, 'put', die, True),
    'old file removed': (WholeFilesBackend, 'remove', die, True),
    'pointer emptied': (CheckpointHook, '_save_checkpoint_with_step', pointer_emptied, True),
}
OF_WORKERS = {'worker': (_MapDatasetFetcher, 'fetch', die_in_a_worker, False)}


def prepare(moment: str, number: int) -> None:
    """End this process at a moment of :data:`MOMENTS`, the ``number``-th time (from 1)."""
    owner, name, end, after = (MOMENTS | OF_WORKERS)[moment]
    original, calls = getattr(owner, name), 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number and not after:
            end(*args, **kwargs)
        result = original(*args, **kwargs)
        if calls == number and after:
            end(*args, **kwargs)
        return result

    setattr(owner, name, counted)
