"""What a training run costs, as if it had never been interrupted."""

import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS

from ...utils.whole_files import WholeFilesBackend

STARTED = 'MMEBM_STARTED'  # environment variable: time.monotonic() when the process was started
_KEY = 'benchmark_seconds'  # in the checkpoint's message hub
_imported = time.monotonic()


@HOOKS.register_module()
class SecondsHook(Hook):
    """Write wall time and CPU time of a run into ``seconds.txt`` of its work dir, in seconds.

    This is done after each epoch, before its checkpoint is saved, which gets the same numbers. A
    resumed run goes on from those of its checkpoint: what it repeats replaces what was counted, and
    starting up counts once.
    """

    priority = 'NORMAL'  # before CheckpointHook

    def before_train(self, runner: Runner) -> None:
        self._offset = np.zeros(2)
        if runner.iter > 0:
            # a checkpoint of an earlier version has no such numbers, but there is a file
            counted = runner.message_hub.get_info(_KEY) or seconds_spent(Path(runner.work_dir))
            self._offset = np.array(counted) - _clocks()

    def after_train_epoch(self, runner: Runner) -> None:
        wall, cpu = (self._offset + _clocks()).tolist()
        runner.message_hub.update_info(_KEY, [wall, cpu])
        file = Path(runner.work_dir, 'seconds.txt')
        WholeFilesBackend().put(f'{wall:.1f} {cpu:.1f}\n'.encode(), file)


def seconds_spent(folder: Path | None) -> tuple[float, float]:
    """Wall time and CPU time of a run in seconds, by its last epoch; 0 before the first."""
    if folder is None or not (folder / 'seconds.txt').exists():
        return 0.0, 0.0
    # an earlier version wrote a line for each start
    lines = (folder / 'seconds.txt').read_text().splitlines()
    wall, cpu = np.array([line.split() for line in lines], dtype=float).sum(0)
    return float(wall), float(cpu)


def _clocks() -> np.ndarray:
    """Wall time and CPU time of this process and its data-loading workers since it started."""
    used = os.times()
    cpu = used.user + used.system + used.children_user + used.children_system
    cpu += sum(_cpu_seconds(worker.pid) for worker in multiprocessing.active_children())
    return np.array([time.monotonic() - float(os.environ.get(STARTED, _imported)), cpu])


def _cpu_seconds(pid: int) -> float:
    """Of a running process; 0 where the system is not Linux."""
    file = Path(f'/proc/{pid}/stat')
    if not file.exists():
        return 0.0
    user, system = file.read_text().rpartition(')')[2].split()[11:13]  # man 5 proc: 14 and 15
    return (int(user) + int(system)) / os.sysconf('SC_CLK_TCK')
