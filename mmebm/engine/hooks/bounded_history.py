"""A bound on the logged figures that MMEngine keeps in memory and in checkpoints."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS


@HOOKS.register_module()
class BoundedHistoryHook(Hook):
    """Keep as much of the history of each logged figure as an average needs.

    MMEngine keeps a million values of each, and copies all of them at every iteration and into
    every checkpoint. The longest average is over an epoch, unless the log processor asks for one
    over the whole run (``window_size='global'``); then nothing is dropped.
    """

    least = 1000  # values that are kept in any case; the bound is renewed as often

    def before_train(self, runner: Runner) -> None:
        """Find the longest window."""
        processor = runner.log_processor
        windows = [processor.window_size, *(c.get('window_size') for c in processor.custom_cfg)]
        loaders = [runner.train_loop.dataloader]
        loaders += [] if runner.val_loop is None else [runner.val_loop.dataloader]
        lengths = [len(loader) for loader in loaders]
        self.length = max(self.least, *lengths, *(w for w in windows if isinstance(w, int)))
        self.active = 'global' not in windows

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Set the bound of new figures."""
        if self.active and self.every_n_train_iters(runner, self.least):
            for history in runner.message_hub.log_scalars.values():
                history.max_length = self.length
