"""One line that says how far a run is."""

import logging
import sys
import time
from datetime import timedelta
from typing import Any

from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS
from torch import nn

from ...utils.quiet import NOT_FOR_THE_TERMINAL, without

REDRAWN = 0.5  # seconds between two changes of the line
AVERAGED = 10  # iterations, for the speed


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, where several processes train it together."""
    return model.module if is_model_wrapper(model) else model


@HOOKS.register_module()
class ProgressHook(Hook):
    """Show progress, images per second, loss, held-out PSNR gain and the time left in one line.

    The terminal shows nothing else but warnings: the rest goes to MMEngine's log file only. Where
    the output is not a terminal, a line is printed at each validation.
    """

    priority = 'VERY_LOW'

    def before_train(self, runner: Runner) -> None:
        for handler in list(runner.logger.handlers):
            if type(handler) is logging.StreamHandler:
                runner.logger.removeHandler(handler)
        self._gain, self._drawn = '', time.perf_counter()
        self._started, self._first = self._drawn, runner.iter
        self._redrawn = is_main_process() and sys.stderr.isatty()
        if is_main_process():
            warnings = logging.StreamHandler(sys.stderr)
            warnings.setLevel(logging.WARNING)
            warnings.addFilter(without(*NOT_FOR_THE_TERMINAL))
            runner.logger.addHandler(warnings)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Redraw the line, if it is time to."""
        now = time.perf_counter()
        if outputs and (now - self._drawn > REDRAWN or not hasattr(self, '_loss')):
            self._drawn, self._loss = now, outputs['loss'].item()
            if self._redrawn:
                print(f'\r{self._line(runner, runner.iter + 1)}\033[K', end='', file=sys.stderr)

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Take over the PSNR gain; print the line where nothing is redrawn."""
        borrowed = getattr(unwrapped(runner.model), 'norm_pix', False)  # inpainting, from originals
        if metrics and 'restoration/psnr_gain' in metrics and not borrowed:
            self._gain = f'  held-out gain {metrics["restoration/psnr_gain"]:+.2f} dB'
        if is_main_process() and not self._redrawn:
            print(self._line(runner, runner.iter), file=sys.stderr)

    def after_train(self, runner: Runner) -> None:
        self.close()

    def close(self) -> None:
        """Leave the line, also where a run ends early."""
        if getattr(self, '_redrawn', False):
            self._redrawn = False
            print(file=sys.stderr)

    def _line(self, runner: Runner, done: int) -> str:
        text = f'{done / runner.max_iters:4.0%}'
        if 'train/time' in runner.message_hub.log_scalars:
            seconds = runner.message_hub.get_scalar('train/time').mean(AVERAGED)
            images = runner.train_dataloader.batch_size * get_world_size()
            text += f'  {images / seconds:.0f} images/s'
        if hasattr(self, '_loss'):
            text += f'  loss {self._loss:.4f}'
        spent = time.perf_counter() - self._started
        left = spent / max(done - self._first, 1) * (runner.max_iters - done)
        return f'{text}{self._gain}  {timedelta(seconds=round(left))} left'
