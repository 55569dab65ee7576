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
        self._figures: dict[str, str] = {}
        self._drawn = 0.0

    def before_train(self, runner: Runner) -> None:
        console = Console(file=sys.stderr)
        for handler in list(runner.logger.handlers):
            if type(handler) is logging.StreamHandler:
                runner.logger.removeHandler(handler)
        if not is_main_process():
            return
        warnings = RichHandler(
            logging.WARNING, console=console, show_time=False, show_path=False, show_level=False
        )
        warnings.addFilter(WithoutPrefixes(NOT_FOR_THE_TERMINAL))
        runner.logger.addHandler(warnings)
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

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Redraw the line, if it is time to."""
        now = time.perf_counter()
        if self._progress is None or not outputs or now - self._drawn < REDRAWN:
            return
        self._drawn = now
        self._figures['loss'] = f'loss {outputs["loss"].item():.4f}'
        if 'train/time' in runner.message_hub.log_scalars:
            seconds = runner.message_hub.get_scalar('train/time').mean(AVERAGED)
            images = runner.train_dataloader.batch_size * get_world_size()
            self._figures['speed'] = f'{images / seconds:.0f} images/s'
        self._draw(runner.iter + 1)

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Take over the PSNR gain; print the line where nothing is redrawn."""
        if metrics and 'restoration/psnr_gain' in metrics:
            gain = metrics['restoration/psnr_gain']
            self._figures['gain'] = f'held-out gain {gain:+.2f} dB'
        if self._progress is not None and self._progress.disable:
            print(f'{runner.iter / runner.max_iters:4.0%}  {self._text()}', file=sys.stderr)

    def after_train(self, runner: Runner) -> None:
        self._draw(runner.iter)
        self.close()

    def close(self) -> None:
        """Leave the terminal as it was, also where a run ends early."""
        if self._progress is not None:
            self._progress.stop()

    def _draw(self, completed: int) -> None:
        if self._progress is not None:
            self._progress.update(self._task, completed=completed, figures=self._text())

    def _text(self) -> str:
        return '  '.join(self._figures[k] for k in ('speed', 'loss', 'gain') if k in self._figures)
