"""Training runs in processes of their own: what is done, what has failed, and why."""

import errno
import fcntl
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple, TextIO, TypeVar

import torch
from mmengine.config import Config

from ...utils.shipped_files import shipped
from ...utils.whole_files import WholeFilesBackend
from .compute import STARTED, SecondsHook

SIGNALS = signal.SIGHUP, signal.SIGINT, signal.SIGTERM
INTERRUPTED = {-s for s in SIGNALS} | {128 + s for s in SIGNALS}  # exit codes
LOADERS_END = 10  # seconds that data-loading processes may outlive a killed training
LOADING = ('train_dataloader.num_workers', 'train_dataloader.persistent_workers')
Item = TypeVar('Item')
Result = TypeVar('Result')


class Stage(NamedTuple):
    """One training run: ``kind`` is 'pretraining' or 'finetune'; no folder if not yet chosen."""

    method: str
    kind: str
    epochs: int
    folder: Path | None = None

    @property
    def checkpoint(self) -> Path:
        return self.folder / f'epoch_{self.epochs}.pth'

    @property
    def done(self) -> bool:
        return self.folder is not None and self.checkpoint.exists()

    @property
    def failure(self) -> str:
        """Why it has failed, such as 'diverged'; empty if it has not."""
        file = self.folder and self.folder / 'failed.txt'
        return file.read_text() if file and file.exists() else ''


class TrainingFailed(RuntimeError):
    """A training run that cannot be finished; ``stage`` says which, and why."""

    def __init__(self, stage: Stage):
        super().__init__(f'{stage.failure}, see {stage.folder / "output.txt"}')
        self.stage = stage


def train(config: Config, stage: Stage, processes: 'Processes') -> None:
    """Train a config in a process of its own, unless it is done; an interrupted run continues.

    Raises:
        TrainingFailed: now or before; its folder gets ``failed.txt``. Without the folder it starts
            again.
        RuntimeError: it was ended from outside, the disk is full, or another process trains it.
        ValueError: the folder holds a run with other options. Names them.
    """
    folder = stage.folder
    # Next to the folder: the runner writes its own files inside. JSON: pretty_text is slow.
    file, options = (folder.with_name(f'{folder.name}.{kind}') for kind in ('py', 'json'))
    config.work_dir = str(folder)
    text = json.dumps(config.to_dict(), indent=1)
    if options.exists():
        found = changes(json.loads(options.read_text()), json.loads(text), LOADING)
        if found:
            raise ValueError(f'{folder} holds a run with other options: name another out; {found}')
    if stage.failure:
        raise TrainingFailed(stage)
    if stage.done:
        return
    folder.mkdir(parents=True, exist_ok=True)
    config.custom_imports.imports.append(SecondsHook.__module__)
    config.setdefault('custom_hooks', []).append(dict(type=SecondsHook.__name__))
    config.dump(file)
    options.write_text(text)
    code, output = processes.run(file, folder), folder / 'output.txt'
    if code == 0:
        return
    last = output.read_text(errors='replace')[-5000:]
    if processes.stopped or code in INTERRUPTED or os.strerror(errno.ENOSPC) in last:
        raise RuntimeError(f'a training run was interrupted, see {output}')
    WholeFilesBackend().put(reason(code, last).encode(), folder / 'failed.txt')
    raise TrainingFailed(stage)


def reason(code: int, output: str) -> str:
    """Why a training run has failed, by its exit code and the end of its output."""
    if 'Not finite at iteration' in output or 'Weights not finite' in output:  # FiniteLossHook
        return 'diverged'
    # torch's words on a GPU and on a CPU, and ours if a data-loading process was killed
    words = 'out of memory', "can't allocate memory", 'memory ran out'
    if any(word in output for word in words):
        return 'out of memory'
    return 'killed, maybe for want of memory' if code == -signal.SIGKILL else 'failed'


def changes(old: dict, new: dict, but: Sequence[str] = ()) -> str:
    """The entries in which two configs differ, as ``KEY OLD → NEW``; the first three of them.

    Args:
        old, new: as read from JSON.
        but: keys that do not matter.
    """
    old, new = _flat(old), _flat(new)
    keys = [k for k in old | new if k not in but and old.get(k, '–') != new.get(k, '–')]
    found = [f'{k} {old.get(k, "–")} → {new.get(k, "–")}' for k in keys]
    return ', '.join(found[:3]) + (f' and {len(found) - 3} more' if len(found) > 3 else '')


def _flat(value: object, key: str = '') -> dict[str, str]:
    """The numbers and strings in dicts and lists, as JSON, by keys such as ``model.type``."""
    if not value or not isinstance(value, dict | list):
        return {key: json.dumps(value, ensure_ascii=False)}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    flat = [_flat(inner, f'{key}.{name}' if key else str(name)) for name, inner in items]
    return {name: text for part in flat for name, text in part.items()}


class Processes:
    """Training runs, each in a process of its own, several at the same time.

    Args:
        jobs: how many, ≥ 1. They share the processor's cores, and the GPUs in turn.
    """

    def __init__(self, jobs: int):
        self.jobs = jobs
        self._running: set[subprocess.Popen] = set()
        self._stopped = threading.Event()
        self._slots: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(jobs):
            self._slots.put(slot)

    @property
    def stopped(self) -> bool:
        """Whether all have been ended."""
        return self._stopped.is_set()

    def run(self, file: Path, folder: Path) -> int:
        """Train a config; the exit code. The folder gets the output.

        Raises:
            RuntimeError: another process trains in the folder.
        """
        slot = self._slots.get()
        command = [sys.executable, str(shipped('tools/train.py')), str(file), '--resume']
        try:
            with open(folder / 'output.txt', 'a') as output:
                _lock(output)
                process = subprocess.Popen(
                    command, stdout=output, stderr=subprocess.STDOUT, env=self._environment(slot)
                )
            self._running.add(process)
            try:
                if self.stopped:  # by another job, in the meantime
                    process.terminate()
                return process.wait()
            except BaseException:  # Ctrl-C
                process.terminate()
                process.wait()
                raise
            finally:
                self._running.discard(process)
        finally:
            self._slots.put(slot)

    def each(
        self, function: Callable[[Item], Result], items: Sequence[Item]
    ) -> Iterator[tuple[Item, Result]]:
        """Call a function with each item, ``jobs`` at the same time; pairs as they are finished.

        Whatever goes wrong ends all of them.
        """
        if self.jobs == 1:
            for item in items:
                yield item, function(item)
            return
        pool = ThreadPoolExecutor(self.jobs)
        try:
            futures = {pool.submit(function, item): item for item in items}
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            self._stopped.set()
            for process in list(self._running):
                process.terminate()
            raise
        finally:
            pool.shutdown()

    def _environment(self, slot: int) -> dict[str, str]:
        variables = dict(os.environ)
        if self.jobs > 1:
            threads = max(1, (os.cpu_count() or 1) // self.jobs)
            variables.setdefault('OMP_NUM_THREADS', str(threads))
        variables[STARTED] = str(time.monotonic())
        gpus = torch.cuda.device_count()
        if gpus > 1:
            visible = variables.get('CUDA_VISIBLE_DEVICES') or ','.join(map(str, range(gpus)))
            variables['CUDA_VISIBLE_DEVICES'] = visible.split(',')[slot % gpus]
        return variables


def _lock(output: TextIO) -> None:
    """Lock a file for this process and those that it starts with it, until all of them have ended.

    Raises:
        RuntimeError: others still hold it.
    """
    end = time.monotonic() + LOADERS_END
    while True:
        try:
            fcntl.flock(output, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() > end:
                raise RuntimeError(
                    f'{Path(output.name).parent} is being trained by another process, maybe of a '
                    'comparison that was killed: end it, or wait for it'
                ) from error
        time.sleep(0.2)


def gpus_shared(jobs: int, gpus: int) -> str:
    """What is said if several training runs share a GPU; empty if none do."""
    if not 0 < gpus < jobs:
        return ''
    return (
        f'{jobs} jobs share {gpus} GPU{"s" * (gpus > 1)}: GPU hours are wall time, and too high; '
        f'for hours that can be compared take --jobs {gpus}'
    )
