"""One line that says how far a run is."""

import logging
import sys
import time
from typing import Any

from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


@HOOKS.register_module()
class ProgressHook(Hook):
    """Show progress, time left, images per second, loss and held-out PSNR gain in one line.

    The terminal then shows nothing else but warnings: what MMEngine prints goes to its log file
    only. Where the output is no terminal, a line is printed at each validation.

    Raises:
        Nothing.
    """

    priority = 'VERY_LOW'

    def before_train(self, runner: Runner) -> None:
        self._console = Console(file=sys.stderr)
        show = is_main_process()
        for handler in list(runner.logger.handlers):
            if type(handler) is logging.StreamHandler:
                runner.logger.removeHandler(handler)
        if show:
            shown = RichHandler(
                logging.WARNING,
                console=self._console,
                show_time=False,
                show_path=False,
                show_level=False,
                markup=False,
                highlighter=None,
            )
            shown.addFilter(_not_a_python_warning)
            runner.logger.addHandler(shown)
        self._progress = Progress(
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TextColumn('{task.fields[figures]}'),
            TimeRemainingColumn(compact=True),
            TextColumn('left'),
            console=self._console,
            disable=not show or not self._console.is_terminal,
        )
        self._progress.start()
        self._task = self._progress.add_task(
            '', total=runner.max_iters, completed=runner.iter, figures=''
        )
        self._started = time.perf_counter()
        self._first = self._last = runner.iter
        self._gain = self._loss = None
        self._speed = None

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        now, done = time.perf_counter(), runner.iter + 1
        if batch_idx == 0 or self._speed is None:
            self._round = (now, done)
        elif done > self._round[1]:
            size = runner.train_dataloader.batch_size * get_world_size()
            self._speed = (done - self._round[1]) * size / (now - self._round[0])
        self._speed = self._speed or 0.0
        if not self._progress.disable and outputs and now - getattr(self, '_shown', 0) > 0.5:
            self._shown = now
            self._loss = float(outputs['loss'])
            self._progress.update(self._task, completed=done, figures=self._figures())
        elif outputs:
            self._outputs = outputs
        self._last = done

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        self._gain = (metrics or {}).get('restoration/psnr_gain')
        if getattr(self, '_progress', None) is None or not is_main_process():
            return
        if self._progress.disable:
            if getattr(self, '_outputs', None):
                self._loss = float(self._outputs['loss'])
            share = 100 * self._last / runner.max_iters
            spent = time.perf_counter() - self._started
            left = spent / max(self._last - self._first, 1) * (runner.max_iters - self._last)
            line = f'{share:3.0f}%  {self._figures()}  {_duration(left)} left'
            print(line, file=sys.stderr, flush=True)

    def after_train(self, runner: Runner) -> None:
        self.close()

    def close(self) -> None:
        """Take the line off the terminal; also where a run ends early."""
        if getattr(self, '_progress', None) is not None:
            self._progress.stop()

    def _figures(self) -> str:
        figures = [f'{self._speed:.0f} images/s'] if self._speed else []
        if self._loss is not None:
            figures.append(f'loss {self._loss:.4f}')
        if self._gain is not None:
            figures.append(f'held-out gain {self._gain:+.2f} dB')
        return '  '.join(figures)


def _not_a_python_warning(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith('"')


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02}:{seconds:02}' if hours else f'{minutes}:{seconds:02}'
