"""One line for a mistake of the user, the stack trace for a defect of ours.

The type of an error does not tell them apart. A ``raise`` or ``assert`` in a package's source is a
check that was written for the user. An operation that fails by itself (``None + 1``) lacks a check,
which is a defect. While a run is built from its config, the user's mistakes are: checks of any
package, the system's errors about files, and options that a library's constructor fails on. From
the first iteration on, only our own checks count.
"""

import dis
import errno
import logging
import multiprocessing
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType

import torch
from mmengine.logging import MMLogger
from mmengine.runner import BaseLoop

from .launch import close_process_group, rank_on_machine
from .parser import MISTAKE

WAIT = 15  # seconds after which the first process has ended, if it ends at all

_OURS = Path(__file__).parents[1]
_LIBRARIES = ('mmcv', 'mmengine', 'mmpretrain', 'mmseg', 'timm', 'torch', 'torchvision')
# Not AttributeError: torch raises it explicitly for any attribute that a module lacks.
_CHECKS = (
    ArithmeticError,
    AssertionError,
    ImportError,
    KeyError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)

_CONTINUES = 'the run can be continued from its last checkpoint'
_WORKER_ENDED = (
    'a data-loading worker was killed, usually because memory ran out: fewer workers or a smaller '
    f'batch need less; {_CONTINUES}'
)
# What torch says of other processes and of memory, and what it means.
_FROM_OUTSIDE = {
    r'DataLoader worker \(pid.*?\) (is killed by signal: \w+|exited unexpectedly)': _WORKER_ENDED,
    r'Connection (closed|reset) by peer': f'another process of this run has ended; {_CONTINUES}',
    # also of commands that do not train
    r"(CUDA out of memory|can't allocate memory)": (
        'a batch does not fit in memory: take a smaller one'
    ),
}


class Terminated(KeyboardInterrupt):
    """SIGTERM, as from a cluster or the system at its end; handled like Ctrl-C."""


@contextmanager
def one_line_errors(prog: str, go_on: str = '') -> Iterator[None]:
    """End the process with one line on stderr and exit code 2 for a mistake of the user.

    Ctrl-C and SIGTERM also end in one line, with the exit codes that shells use: 130 and 143.

    The stack trace goes to the log file of the run, if there is one yet. Other errors pass through.
    Of several processes on a machine only the first prints. Another one prints if the launcher has
    not ended it after some seconds, because then the first process is still running.

    Args:
        prog: name of the tool, at the start of the line.
        go_on: how to continue an interrupted run; part of the line.

    Raises:
        SystemExit: for a mistake of the user (exit code 2), Ctrl-C (130) or SIGTERM (143).
    """
    before, children = set(MMLogger._instance_dict), set(multiprocessing.active_children())
    try:
        with _sigterm_interrupts():
            yield
    except (Exception, KeyboardInterrupt) as error:
        with _unheard_workers():
            error, code = _first(error), MISTAKE
            if isinstance(error, KeyboardInterrupt):
                name, number = 'interrupted', signal.SIGINT
                if isinstance(error, Terminated):
                    name, number = 'terminated', signal.SIGTERM
                code = 128 + number
                if rank_on_machine() == '0':
                    line = f'{prog}: {name}{go_on and f"; {go_on}"}'
                    print(line, file=sys.stderr, flush=True)
            else:
                message = mistake(error)
                if message is None:
                    raise
                new = [x for name, x in MMLogger._instance_dict.items() if name not in before]
                log = _write_trace(error, new)
                print_error(prog, message if log is None else f'{message} (stack trace: {log})')
            _leave(children)
        sys.exit(code)


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # where none can be handled
        yield
        return

    def terminate(number, frame):
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _unheard_workers() -> Iterator[None]:
    """Ignore the death of data-loading workers.

    Torch raises an error for each killed worker, which would replace the error being reported.
    """
    if threading.current_thread() is not threading.main_thread():  # where none is raised
        yield
        return
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)


def _first(error: BaseException) -> BaseException:
    """The error that was on its way when torch raised one for a killed worker, else this one."""
    if not re.match(r'DataLoader worker \(pid', str(error)):
        return error
    earlier = error.__context__
    stops = isinstance(earlier, KeyboardInterrupt)
    return earlier if stops or (isinstance(earlier, Exception) and mistake(earlier)) else error


def _leave(children: set[multiprocessing.Process]) -> None:
    """End all processes but these that this one has started, and its part in a process group.

    Data-loading workers have nothing to lose. Left alone, each exits seconds later with the stack
    trace of a broken pipe.
    """
    workers = set(multiprocessing.active_children()) - children
    for worker in workers:
        worker.kill()
    for worker in workers:
        worker.join()
    if torch.distributed.is_initialized() and torch.distributed.get_backend() == 'gloo':
        close_process_group()  # else it may abort the process with another exit code


def mistake(error: Exception) -> str | None:
    """The message if an error is a mistake of the user, else None.

    Args:
        error: as caught, with its traceback.
    """
    message = _message(error)
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if isinstance(error, EOFError | OSError) and any(map(_is_handing_over, frames)):
        return f'{_WORKER_ENDED} ({message or type(error).__name__})'
    if not message or not isinstance(error, _CHECKS):
        return None
    if re.match(r'Caught \w+ in DataLoader worker process', message):
        return _mistake_in_worker(message)
    for pattern, explanation in _FROM_OUTSIDE.items():
        if isinstance(error, RuntimeError) and (found := re.search(pattern, message)):
            return f'{explanation} ({found[0]})'
    checked, config = _is_raised(error.__traceback__), _being_built(frames)
    owner = config and _name(config['type'])
    if any(map(_is_loop, frames)):
        if isinstance(error, OSError) and (storage := _of_storage(error)):
            return storage
        checked = checked and _is_ours(frames[-1].f_code.co_filename)
    elif not checked:
        kinds = ArithmeticError | KeyError | TypeError | ValueError
        refused = isinstance(error, kinds) and _is_given(frames)
        checked = isinstance(error, OSError) or refused
        if refused and config:  # such a message names no option
            options = [f'{k}={v!r}' for k, v in config.items() if isinstance(v, str | int | float)]
            owner = f'{owner}({", ".join(o for o in options if not o.startswith("type="))})'
    if not checked:
        return None
    # some releases of MMEngine prefix the class and its source file, once per level
    message = re.sub(r'^(class `\w+` in \S+: )+', '', message)
    return message if owner is None or owner in message else f'{owner}: {message}'


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f'{error.filename}: {error.strerror}' if error.filename else error.strerror
    if isinstance(error, KeyError) and error.args:
        text = str(error.args[0])
        return f'the config lacks {text}' if re.fullmatch(r'\w+', text) else text
    return str(error)


def _of_storage(error: OSError) -> str | None:
    """What is wrong with the disk or a folder under a run, whoever's code was writing."""
    folder = Path(str(error.filename)).parent if error.filename else None
    if error.errno == errno.ENOENT and folder is not None and not folder.exists():
        text = f'{error.filename} cannot be written or read: the folder {folder} is gone'
    elif error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE):
        text = _message(error)
    else:
        return None
    return f'{text}; {_CONTINUES}, if there is one'


def _is_raised(trace: TracebackType) -> bool:
    """Whether a ``raise`` or ``assert`` raised the error, rather than a failing operation."""
    while trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame.f_code.co_code[trace.tb_lasti] == dis.opmap['RAISE_VARARGS']


def _is_loop(frame: FrameType) -> bool:
    return frame.f_code.co_name == 'run' and isinstance(frame.f_locals.get('self'), BaseLoop)


def _is_handing_over(frame: FrameType) -> bool:
    """Whether a loader was taking a batch from one of its workers."""
    return frame.f_code.co_name == '_try_get_data' and _package(frame) == 'torch'


def _package(frame: FrameType) -> str:
    return frame.f_globals.get('__name__', '').split('.')[0]


def _is_ours(filename: str) -> bool:
    return Path(filename).resolve().is_relative_to(_OURS)


def _is_given(frames: list[FrameType]) -> bool:
    """Whether a library raised the error, called with a config by MMEngine and not by our code."""
    builders = [i for i, frame in enumerate(frames) if _is_builder(frame)]
    names = [frame.f_code.co_filename for frame in frames[builders[-1] if builders else 0 :]]
    ours = [Path(name).resolve() for name in names if _is_ours(name)]
    return _package(frames[-1]) in _LIBRARIES and all(
        p.parent == Path(__file__).parent for p in ours
    )


def _being_built(frames: list[FrameType]) -> dict | None:
    """The innermost config from which MMEngine was building an object."""
    for frame in reversed(frames):
        if _is_builder(frame):
            config = frame.f_locals.get('cfg')
            if isinstance(config, dict) and 'type' in config:
                return config
    return None


def _is_builder(frame: FrameType) -> bool:
    return re.fullmatch('build_.*from_cfg', frame.f_code.co_name) is not None


def _name(kind: str | type) -> str:
    return kind if isinstance(kind, str) else kind.__name__


def _mistake_in_worker(text: str) -> str | None:
    """As :func:`mistake`, for an error in a worker, which torch passes on as text."""
    places = re.findall(r'^  File "(.+)", line \d+, in .+\n +(\w*)', text, re.MULTILINE)
    names = list(re.finditer(r'^(?:\w+\.)*\w+(?:Error|Exception): ', text, re.MULTILINE))
    if not places or not names:
        return None
    filename, word = places[-1]
    checked = _is_ours(filename) and word in ('raise', 'assert')
    return text[names[-1].end() :] if checked else None


def _write_trace(error: Exception, loggers: list[MMLogger]) -> str | None:
    """Write the stack trace to the files of these loggers; return the path of the last one."""
    text = ''.join(traceback.format_exception(error))
    record = logging.LogRecord('mmebm', logging.ERROR, __file__, 0, text, None, None)
    path = None
    for handler in (h for logger in loggers for h in logger.handlers):
        if hasattr(handler, 'baseFilename'):
            handler.handle(record)
            path = handler.baseFilename
    return path


def print_error(prog: str, message: str) -> None:
    """Print the one line; of several processes on a machine the first does so first."""
    rank = rank_on_machine()
    if rank != '0':
        # torchrun ends the other processes as soon as one ends: let the first one print
        time.sleep(WAIT)
        prog = f'{prog}, process {rank}'
    print(f'{prog}: error: {" ".join(message.split())}', file=sys.stderr, flush=True)
