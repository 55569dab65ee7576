"""Stop a run whose loss or weights are no longer finite."""

import math
from typing import Any

import torch
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS

_ADVICE = (
    'Earlier checkpoints are sound. Go on from one, or start again, with a lower learning rate, a '
    'smaller step size (model.step_size), or bf16 in place of fp16 (optim_wrapper.dtype).'
)


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stop a run whose loss or weights are no longer finite, before they reach a checkpoint.

    After each iteration the loss and the other figures that the model returned are checked: a
    ``distance_step`` among them tells in which descent step it began, 0 being the corrupted image
    itself. The weights, which a non-finite gradient spoils even under a finite loss, are checked
    before :class:`mmengine.hooks.CheckpointHook` saves them. Under fp16 loss scaling a step whose
    gradients overflow is skipped and its loss is finite; the run goes on.
    """

    priority = 'ABOVE_NORMAL'  # before CheckpointHook, and before EMAHook takes the weights in

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Check the figures of the iteration; FloatingPointError names the bad ones."""
        figures = dict(outputs or {})  # tensors of one element, or numbers
        tensors = {k: v.detach().reshape(1) for k, v in figures.items() if torch.is_tensor(v)}
        if tensors:  # all at once: the device is waited for only once
            figures.update(zip(tensors, torch.cat(list(tensors.values())).tolist(), strict=True))
        bad = [f'{name}={v}' for name, v in figures.items() if not math.isfinite(v)]
        if bad:
            raise FloatingPointError(
                f'Not finite at iteration {runner.iter + 1} (epoch {runner.epoch + 1}): '
                f'{", ".join(bad)}; step_size={figures.get("step_size", "not reported")}. {_ADVICE}'
            )
        hooks = (h for h in runner.hooks if isinstance(h, CheckpointHook) and not h.by_epoch)
        if any(
            self.every_n_train_iters(runner, hook.interval, hook.save_begin)
            or (hook.save_last and self.is_last_train_iter(runner))
            for hook in hooks
        ):
            _check_weights(runner, iteration=runner.iter + 1)

    def after_train_epoch(self, runner: Runner) -> None:
        """Check the weights; FloatingPointError names the bad ones."""
        _check_weights(runner, iteration=runner.iter)  # the loop has counted the last one already


def _check_weights(runner: Runner, iteration: int) -> None:
    parameters = runner.model.named_parameters()
    bad = [name for name, values in parameters if not torch.isfinite(values).all()]
    if bad:
        raise FloatingPointError(
            f'Weights not finite after iteration {iteration} (epoch {runner.epoch + 1}), under a '
            f'finite loss: {len(bad)} parameters, e.g. {", ".join(bad[:3])}. {_ADVICE}'
        )
