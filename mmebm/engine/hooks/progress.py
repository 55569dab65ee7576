"""One line that says how far a run is."""

import logging
import sys
import time
from typing import Any

import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ...utils.quiet import NOT_FOR_THE_TERMINAL, WithoutPrefixes

REDRAWN = 0.5  # seconds between two changes of the line
AVERAGED = 10  # iterations, for the speed


@HOOKS.register_module()
class ProgressHook(Hook):
    """Show progress, images per second, loss, held-out PSNR gain and the time left in one line.

    The terminal shows nothing else but warnings: the rest goes to MMEngine's log file only. Where
    the output is not a terminal, a line is printed at each validation.
    """

    priority = 'VERY_LOW'

    def __init__(self) -> None:
        self._progress: Progress | None = None  # until training begins
        self._loss: torch.Tensor | None = None
        self._gain: float | None = None
        self._drawn = 0.0

    def before_train(self, runner: Runner) -> None:
        console = Console(file=sys.stderr)
        for handler in list(runner.logger.handlers):
            if type(handler) is logging.StreamHandler:
                runner.logger.removeHandler(handler)
        if not is_main_process():
            return
        runner.logger.addHandler(_warnings_on(console))
        self._progress = Progress(
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TextColumn('{task.fields[figures]}'),
            TimeRemainingColumn(compact=True),
            TextColumn('left'),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task('', total=runner.max_iters, figures='')
        self._progress.update(self._task, completed=runner.iter)
        self._progress.start()
        self._started, self._first = time.perf_counter(), runner.iter

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Redraw the line, if it is time to."""
        if self._progress is None or not outputs:
            return
        self._loss = outputs['loss'].detach()
        now = time.perf_counter()
        if not self._progress.disable and now - self._drawn > REDRAWN:
            self._drawn = now
            self._progress.update(
                self._task, completed=runner.iter + 1, figures=self._figures(runner)
            )

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Take over the PSNR gain; print it where nothing is redrawn."""
        self._gain = (metrics or {}).get('restoration/psnr_gain')
        if self._progress is None or not self._progress.disable:
            return
        spent, done = time.perf_counter() - self._started, runner.iter - self._first
        left = spent / max(done, 1) * (runner.max_iters - runner.iter)
        share = runner.iter / runner.max_iters
        print(f'{share:4.0%}  {self._figures(runner)}  {_clock(left)} left', file=sys.stderr)

    def after_train(self, runner: Runner) -> None:
        if self._progress is not None:
            self._progress.update(self._task, completed=runner.iter, figures=self._figures(runner))
        self.close()

    def close(self) -> None:
        """Leave the terminal as it was, also where a run ends early."""
        if self._progress is not None:
            self._progress.stop()

    def _figures(self, runner: Runner) -> str:
        figures = []
        if 'train/time' in runner.message_hub.log_scalars:
            seconds = runner.message_hub.get_scalar('train/time').mean(AVERAGED)
            images = runner.train_dataloader.batch_size * get_world_size()
            figures.append(f'{images / seconds:.0f} images/s')
        if self._loss is not None:
            figures.append(f'loss {self._loss.item():.4f}')
        if self._gain is not None:
            figures.append(f'held-out gain {self._gain:+.2f} dB')
        return '  '.join(figures)


def _warnings_on(console: Console) -> logging.Handler:
    """Prints warnings above the line."""
    handler = RichHandler(
        logging.WARNING, console=console, show_time=False, show_path=False, show_level=False
    )
    handler.addFilter(WithoutPrefixes(NOT_FOR_THE_TERMINAL))
    return handler


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02}:{seconds:02}' if hours else f'{minutes}:{seconds:02}'
