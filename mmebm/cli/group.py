"""Processes that train together: told to stop, waited for, and ended, so that none is left."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence

LOOK_AGAIN = 0.1  # seconds
GRACE = 30.0  # seconds for the others to end, once one of them has stopped
SIGNALS = (signal.SIGINT, signal.SIGTERM)
STOPPED = tuple(128 + number for number in SIGNALS)  # exit codes


def run_together(starts: Sequence[Callable[[], subprocess.Popen]]) -> int:
    """Start processes and wait for all; 0 if all ended well, else the exit code of one.

    The first SIGINT or SIGTERM is passed on to them, for them to end when they see fit; a second
    one kills them. If one fails, the others are killed, each with all that it has started.

    Args:
        starts: each starts a process, as the leader of a process group of its own. The process
            says why it fails, and the first one that it stopped: exit code 130 or 143.

    Raises:
        KeyboardInterrupt: or what else the signal does, if no process said that it stopped.
        RuntimeError: something else has killed one.
    """
    received: list[int] = []
    # what was started to ignore a signal, as by nohup, goes on ignoring it
    heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {n: signal.signal(n, lambda number, frame: received.append(number)) for n in heard}
    processes: list[subprocess.Popen] = []
    try:
        for start in starts:
            processes.append(start())
        first = _wait(processes, received)
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):  # all of the group has ended
                os.killpg(process.pid, signal.SIGKILL)
        codes = [process.wait() for process in processes]
        for number, handler in before.items():
            signal.signal(number, handler)
    if first > 0 and first not in STOPPED:
        return first
    if codes[0] in STOPPED or not any(codes):
        return codes[0]
    if received:
        signal.raise_signal(received[0])
    if first < 0:
        raise RuntimeError(
            f'one of the processes was killed by signal {-first}, by the system if memory ran out'
        )
    return first


def _wait(processes: Sequence[subprocess.Popen], received: Sequence[int]) -> int:
    """Wait until all have ended or the rest is to be killed; the exit code of the first to fail."""
    told, first, grace = False, 0, GRACE
    while True:
        codes = [process.poll() for process in processes]
        first = first or next(filter(None, codes), 0)
        failed = first not in (0, *STOPPED)
        if failed or None not in codes or len(received) > 1 or grace <= 0:
            return first
        if received and not told:
            told = True
            for process in processes:
                process.send_signal(received[0])
        if first:
            grace -= LOOK_AGAIN
        time.sleep(LOOK_AGAIN)
