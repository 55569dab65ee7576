"""One rule for the errors of all commands.

1. What our code raises on purpose is for the user: :class:`mmebm.utils.UserError`, or an exception
   of ``_ON_PURPOSE`` whose last frame is in ``mmebm`` or its tools. So is what the system says of
   files, memory and killed processes. It ends the command with one line and exit code 2.
2. While a run is built, before its first iteration, any exception under MMEngine is one line that
   names the part being built.
3. Everything else is a defect and keeps its stack trace.

The stack trace of 1. and 2. goes to the log file of the run; ``--traceback`` prints it. Ctrl-C and
SIGTERM are one line, too, with the exit codes that shells use: 130 and 143.
"""

import logging
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

MISTAKE = 2  # exit code, the same as argparse's
_OURS = (Path(__file__).parents[1], Path(__file__).parents[2] / 'tools')
_ON_PURPOSE = (ValueError, TypeError, OSError, ImportError, MemoryError, FloatingPointError)
# What torch says of other processes and of memory, and what it means.
_FROM_OUTSIDE = {
    r'shared memory.*': 'use no workers (num_workers=0, --workers 0), or docker run --shm-size=2g',
    r'DataLoader worker \(pid.*': 'a data-loading worker was killed, usually out of memory',
    r'Connection (closed|reset) by peer': 'another process of this run has ended',
    r'\S+ is not currently implemented for the MPS': 'set PYTORCH_ENABLE_MPS_FALLBACK=1',
    r"(CUDA out of|can't allocate) memory": 'a smaller batch is needed to fit in memory',
}


class Terminated(KeyboardInterrupt):
    """SIGTERM, as from a cluster or the system at its end; handled like Ctrl-C."""


@contextmanager
def one_line_errors(prog: str, go_on: str = '') -> Iterator[None]:
    """End the process as the rule above says; ``go_on`` tells how to continue what was stopped."""
    try:
        with _handled('SIGTERM', _terminate):
            yield
    except (Exception, KeyboardInterrupt) as error:
        # torch raises an error for each worker that ends, in place of the one being reported
        with _handled('SIGCHLD', signal.SIG_DFL):
            stop, code = error, MISTAKE
            while stop is not None and not isinstance(stop, KeyboardInterrupt):
                stop = stop.__context__  # an interruption that the error replaced on its way
            if stop is not None:
                terminated = isinstance(stop, Terminated)
                code = 128 + (signal.SIGTERM if terminated else signal.SIGINT)
                if rank_on_machine() == '0':
                    line = f'{prog}: {"terminated" if terminated else "interrupted"}'
                    print(line + (go_on and f'; {go_on}'), file=sys.stderr, flush=True)
            elif (message := mistake(error)) is not None:
                log = _log_trace(error)
                print_error(prog, f'{message} (stack trace: {log})' if log else message)
            else:
                raise
            _leave()
        sys.exit(code)


def mistake(error: Exception) -> str | None:
    """The line for an error that was caught; None for a defect."""
    from ..utils import UserError  # not at the top: printing help must not import torch

    frames, message = traceback.extract_tb(error.__traceback__), str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        message = f'{error.filename}: {error.strerror}' if error.filename else error.strerror
    for pattern, meaning in _FROM_OUTSIDE.items():
        if found := re.search(pattern, message):
            return f'{meaning} ({found[0]})'
    last = frames[-1].filename if frames else ''
    if re.match(r'Caught \w+ in DataLoader worker process', message):  # torch hands on its text
        last = re.findall(r'^  File "(.+)", line', message, re.MULTILINE)[-1]
        message = re.split(r'^[\w.]*(?:Error|Exception): ', message, flags=re.MULTILINE)[-1]
    ours = any(Path(last).resolve().is_relative_to(folder) for folder in _OURS)
    # EOFError: a worker was killed while it handed over a batch
    always = isinstance(error, UserError | EOFError) or getattr(error, 'errno', None) is not None
    if always or (isinstance(error, _ON_PURPOSE) and ours):
        return message
    part = _part_being_built(frames)
    place = frames and f'{Path(last).name}:{frames[-1].lineno}'
    return part and f'{part}: {type(error).__name__}: {message[:600]} ({place})'


def _part_being_built(frames: traceback.StackSummary) -> str | None:
    """What MMEngine was building; None if it was not, or if one of its loops was running."""
    calls = [f.name for f in frames if 'mmengine' in Path(f.filename).parts]
    found = [re.fullmatch(r'_?(?:build|init|load|register|wrap)_(\w+)', name) for name in calls]
    parts = dict.fromkeys(m[1].removesuffix('_from_cfg').replace('_', ' ') for m in found if m)
    text = ' '.join(part for part in parts if part != 'from cfg') or 'config'
    return text if calls and 'run' not in calls else None


def _terminate(number: int, frame: object) -> None:
    raise Terminated


@contextmanager
def _handled(name: str, handler: Callable | signal.Handlers) -> Iterator[None]:
    """Handle a signal, where the system has it and in the thread that may."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, name):
        yield
        return
    before = signal.signal(getattr(signal, name), handler)
    try:
        yield
    finally:
        signal.signal(getattr(signal, name), before)


def _leave() -> None:
    """End data-loading workers, and this process's part in a process group."""
    for worker in multiprocessing.active_children():  # each would end with a trace of its own
        worker.kill()
        worker.join()
    if 'torch' in sys.modules:
        from ..engine.runner import close_process_group

        close_process_group('gloo')  # that of GPUs would wait for the others


def _log_trace(error: Exception) -> str | None:
    """Write the stack trace to the log file of the run; return its path if there is one."""
    from mmengine.logging import MMLogger

    handlers = MMLogger.get_current_instance().handlers
    files = [handler for handler in handlers if isinstance(handler, logging.FileHandler)]
    text = ''.join(traceback.format_exception(error))
    for file in files:
        file.handle(logging.LogRecord('mmebm', logging.ERROR, '', 0, text, None, None))
    return files[0].baseFilename if files else None


def print_error(prog: str, message: str) -> None:
    """Print the one line; of several processes on a machine the first does so first."""
    rank = rank_on_machine()
    if rank != '0':
        time.sleep(15)  # torchrun ends the others as soon as one ends: let the first one print
        prog = f'{prog}, process {rank}'
    if '--traceback' in sys.argv:
        traceback.print_exc()
    print(f'{prog}: error: {" ".join(message.split())}', file=sys.stderr, flush=True)


def rank_on_machine() -> str:
    """This process among those of the run on this machine; '0' is the one that prints."""
    names = ('LOCAL_RANK', 'SLURM_LOCALID', 'OMPI_COMM_WORLD_LOCAL_RANK')
    return next((os.environ[name] for name in names if os.environ.get(name)), '0')
