"""What a run of days needs: bounded memory, a stop that loses nothing, no validation missed."""

import signal
import threading
from types import FrameType
from typing import Any

import torch
from mmengine.dist import all_reduce, barrier
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import IterBasedTrainLoop, Runner
from mmpretrain.registry import HOOKS

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@HOOKS.register_module()
class BoundedHistoryHook(Hook):
    """Keep as much of the history of each logged figure as an average needs.

    MMEngine keeps a million values of each, and copies all of them at every iteration and into
    every checkpoint. The longest average is over an epoch, unless the log processor asks for one
    over the whole run (``window_size='global'``); then nothing is dropped.
    """

    least = 1000  # values that are kept in any case; the bound is renewed as often

    def before_train(self, runner: Runner) -> None:
        processor = runner.log_processor
        windows = [processor.window_size, *(c.get('window_size') for c in processor.custom_cfg)]
        loops = [loop for loop in (runner.train_loop, runner.val_loop) if loop is not None]
        lengths = [len(loop.dataloader) for loop in loops]
        self.length = max(self.least, *lengths, *(w for w in windows if isinstance(w, int)))
        self.active = 'global' not in windows

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        if self.active and self.every_n_train_iters(runner, self.least):
            for history in runner.message_hub.log_scalars.values():
                history.max_length = self.length


@HOOKS.register_module()
class MissedValidationHook(Hook):
    """Validate before a resumed run goes on, if it stopped where a validation was due.

    MMEngine saves a checkpoint before it validates. A run killed in between would go on without the
    figures of that epoch, and without the best checkpoint if this would have been it. A validation
    that was not missed gives the same figures again, which replace nothing.
    """

    priority = 'LOWEST'  # after CheckpointHook has read which checkpoint is the best

    def before_train(self, runner: Runner) -> None:
        loop = runner.train_loop
        by_iteration = isinstance(loop, IterBasedTrainLoop)
        done, last = (loop.iter, loop.max_iters) if by_iteration else (loop.epoch, loop.max_epochs)
        due = done % loop.val_interval == 0 or done == last
        if runner.val_loop is not None and done > 0 and done >= loop.val_begin and due:
            runner.val_loop.run()


@HOOKS.register_module()
class GracefulStopHook(Hook):
    """On Ctrl-C or SIGTERM, save at the end of the current epoch and end the run.

    The checkpoint is one like any other: a run that is resumed from it continues bit-identically.
    A second signal ends the run at once, as without this hook. Made for epochs of seconds, such as
    the rounds of :class:`mmebm.datasets.RoundSampler`.
    """

    priority = 'NORMAL'  # before CheckpointHook

    def __init__(self) -> None:
        self._received = 0  # number of the signal
        self._agreed = 0  # by all processes
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
        number = torch.tensor(self._received)
        all_reduce(number, 'max')  # a signal reaches processes at different times
        self._agreed = int(number)
        for hook in runner.hooks if self._agreed else ():
            if isinstance(hook, CheckpointHook):
                hook.interval = 1

    def before_train_epoch(self, runner: Runner) -> None:
        """End the run, by what the signal does without this hook."""
        if self._agreed:
            barrier()  # the checkpoint is written
            self._restore_handlers()
            signal.raise_signal(self._agreed)

    def after_train(self, runner: Runner) -> None:
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
