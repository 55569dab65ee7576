"""Training runs in processes of their own: what is done, what it cost, what failed and why."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock  # torch depends on it
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS

from ..utils import UserError
from ..utils.shipped_files import shipped
from ..utils.whole_files import WholeFilesBackend

# not every system has all of these
INTERRUPTED, KILLED = {1, 2, 15}, 9  # SIGHUP, SIGINT, SIGTERM; SIGKILL
_KEY = 'benchmark_seconds'  # in the checkpoint's message hub
_imported = time.monotonic()


@dataclass(frozen=True)
class Stage:
    """A training run of a method: ``epochs`` at a learning rate; the start of all has none."""

    method: str
    seed: int
    folder: Path
    epochs: int = 0
    lr: float | str = ''

    @property
    def checkpoint(self) -> Path:
        return self.folder / f'epoch_{self.epochs}.pth'

    @property
    def failure(self) -> str:
        """Why it failed, the last line of its output; empty if it did not."""
        file = self.folder / 'failed.txt'
        return file.read_text('utf-8') if file.exists() else ''

    @property
    def seconds(self) -> list[float]:
        """CPU time and wall time until its last epoch; 0 before the first."""
        file = self.folder / 'seconds.txt'
        text = file.read_text('utf-8') if file.exists() else '0 0'
        return [float(x) for x in reversed(text.split())]


def train(config: Config, stage: Stage, say: Callable[[str], object]) -> Stage:
    """Train a config in a process of its own, unless it is done or failed; continue if interrupted.

    UserError if it is ended from outside, ValueError if the folder holds a run with other options.
    """
    folder = stage.folder
    config.work_dir = str(folder)
    new = json.loads(json.dumps(config.to_dict()))
    del new['train_dataloader']['num_workers']  # of no consequence
    # next to the folder: the runner writes its own files inside
    file, options = (folder.with_name(f'{folder.name}.{kind}') for kind in ('py', 'json'))
    old = json.loads(options.read_text('utf-8')) if options.exists() else new
    if old != new:
        found = ', '.join(key for key in old | new if old.get(key) != new.get(key))
        raise ValueError(f'{folder} holds a run with another {found}: choose another out')
    if stage.failure or stage.checkpoint.exists():
        return stage
    say(f'training {folder}')
    folder.mkdir(parents=True, exist_ok=True)
    config.dump(file)
    WholeFilesBackend().put(json.dumps(new).encode(), options)
    code, output = run_training(file, folder), folder / 'output.txt'
    if code:
        last = output.read_text('utf-8', errors='replace').strip().rpartition('\n')[2]
        if {-code, code - 128} & INTERRUPTED or 'No space left on device' in last:
            raise UserError(f'a training run was interrupted, see {output}')
        reason = last.rpartition('error: ')[2] or f'exit code {code}'
        reason = 'killed, probably out of memory' if code == -KILLED else reason
        WholeFilesBackend().put(reason.encode(), folder / 'failed.txt')
    return stage


def run_training(file: Path, folder: Path) -> int:
    """Train a config, from its last checkpoint on; the exit code. The folder gets the output."""
    command = [sys.executable, str(shipped('tools/train.py')), str(file), '--resume']
    with _lock(folder):
        pass  # held by a training that outlives a killed benchmark
    with open(folder / 'output.txt', 'a', encoding='utf-8') as output:
        return subprocess.run(command, stdout=output, stderr=subprocess.STDOUT).returncode


@HOOKS.register_module()
class SecondsHook(Hook):
    """Write wall and CPU time in seconds into ``seconds.txt`` after each epoch.

    A resumed run goes on from the numbers in its checkpoint: what it repeats counts once. Another
    run in the same folder is waited for.
    """

    priority = 'NORMAL'  # before CheckpointHook

    def before_train(self, runner: Runner) -> None:
        self._lock = _lock(runner.work_dir)
        self._lock.acquire()
        self._offset = np.zeros(2)
        if runner.iter > 0:
            self._offset = np.array(runner.message_hub.get_info(_KEY)) - _clocks()

    def after_train_epoch(self, runner: Runner) -> None:
        wall, cpu = (self._offset + _clocks()).tolist()
        runner.message_hub.update_info(_KEY, [wall, cpu])
        text = f'{wall:.1f} {cpu:.1f}\n'
        Path(runner.work_dir, 'seconds.txt').write_text(text, encoding='utf-8')


def _lock(folder: str | Path) -> FileLock:
    return FileLock(Path(folder, '.lock'), is_singleton=True)


def _clocks() -> np.ndarray:
    """Wall time since this import, and CPU time of this process and of workers that have ended."""
    return np.array([time.monotonic() - _imported, sum(os.times()[:4])])
