"""Processes that start at once: forks of a server that has imported mmebm and done nothing else.

A fork of the tests' own process will not do: once threads of autograd or OpenMP run there, which
depends on what was tested before, a fork hangs or is refused.
"""

import multiprocessing
import time
from collections.abc import Callable
from typing import Any

# the last three are imported by metrics and pictures, when they are first used
PRELOADED = ['mmebm', 'mmengine.runner', 'tensorboard', 'torchmetrics', 'matplotlib.pyplot']
multiprocessing.set_forkserver_preload([*PRELOADED, 'skimage.metrics'])
LIMIT = 600  # seconds
CONTEXT = multiprocessing.get_context('forkserver')


def exit_codes(target: Callable, *arguments: tuple[Any, ...]) -> list[int]:
    """Call ``target``, at module level, in a process for each tuple of arguments; wait for all.

    Those that have not ended after ten minutes are killed: -9.

    A process has the path, but not the environment of the tests, and patches nothing.
    """
    processes = [CONTEXT.Process(target=target, args=each) for each in arguments]
    for process in processes:
        process.start()
    end = time.monotonic() + LIMIT
    for process in processes:
        process.join(max(0, end - time.monotonic()))
        process.kill()  # if it waits for another for ever
        process.join()
    return [process.exitcode for process in processes]
