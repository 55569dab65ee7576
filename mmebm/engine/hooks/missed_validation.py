"""The validation that a run which was cut off did not come to."""

from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner
from mmpretrain.registry import HOOKS


@HOOKS.register_module()
class MissedValidationHook(Hook):
    """Validate before a resumed run goes on, if it stopped where a validation was due.

    MMEngine saves a checkpoint before it validates. A run killed in between would go on without the
    figures of that epoch, and without the best checkpoint if this would have been it. A validation
    that was not missed gives the same figures again, which replace nothing.
    """

    priority = 'LOWEST'  # after CheckpointHook has read which checkpoint is the best

    def before_train(self, runner: Runner) -> None:
        """Validate, if it is due."""
        loop = runner.train_loop
        by_iteration = isinstance(loop, IterBasedTrainLoop)
        done, last = (loop.iter, loop.max_iters) if by_iteration else (loop.epoch, loop.max_epochs)
        due = done % loop.val_interval == 0 or done == last
        if runner.val_loop is not None and done > 0 and done >= loop.val_begin and due:
            runner.val_loop.run()
