"""Ctrl-C and SIGTERM: finish the round, save, and end."""

import signal
import threading
from types import FrameType

import torch
from mmengine.dist import all_reduce, barrier
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@HOOKS.register_module()
class GracefulStopHook(Hook):
    """Save at the end of the current epoch and end the run when it is interrupted.

    The checkpoint is one like any other: a run that is resumed from it continues bit-identically.
    A second signal ends the run at once, as without this hook. Made for epochs of seconds, such as
    the rounds of :class:`mmebm.datasets.RoundSampler`.
    """

    priority = 'NORMAL'  # before CheckpointHook

    def __init__(self) -> None:
        self._received: int | None = None  # number of the signal
        self._agreed: int | None = None  # by all processes
        self._before: dict[int, object] = {}

    def before_train(self, runner: Runner) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # Python handles signals in the main thread only

        def stop_later(number: int, frame: FrameType | None) -> None:
            runner.logger.warning('Stopping after this round; once more stops now, unsaved')
            self._received = number
            self._restore_handlers()

        # what was started to ignore a signal, as by nohup, goes on ignoring it
        heard = [n for n in _SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, stop_later) for number in heard}

    def after_train_epoch(self, runner: Runner) -> None:
        """Have the checkpoint written."""
        number = torch.tensor(self._received or 0)
        all_reduce(number, 'max')  # a signal reaches processes at different times
        self._agreed = int(number) or None
        if self._agreed is not None:
            for hook in runner.hooks:
                if isinstance(hook, CheckpointHook):
                    hook.interval = 1

    def before_train_epoch(self, runner: Runner) -> None:
        """End the run, by what the signal does without this hook.

        A signal that came after the end of the epoch waits for that of the next one.
        """
        if self._agreed is not None:
            barrier()  # the checkpoint is written
            self._restore_handlers()
            signal.raise_signal(self._agreed)

    def after_train(self, runner: Runner) -> None:
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
