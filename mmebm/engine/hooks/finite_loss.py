"""Stop a run whose loss or weights are no longer finite."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stop a run whose loss or weights are no longer finite, before they reach a checkpoint.

    After each iteration the loss and the other figures that the model returned are checked. The
    weights, which a non-finite gradient spoils even under a finite loss, are checked before
    :class:`mmengine.hooks.CheckpointHook` saves them. Under fp16 loss scaling a step whose
    gradients overflow is skipped and its loss is finite; the run goes on.

    Reads ``distance_step0``, ``distance_step1``, ... (distance of every descent step to the clean
    image) and ``step_size`` of :class:`mmebm.models.EnergyRestorationAlgorithm` to name the step
    where it began.
    """

    priority = 'ABOVE_NORMAL'  # before CheckpointHook, and before EMAHook takes the weights in

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Check the figures of the iteration.

        Raises:
            FloatingPointError: one is NaN or infinite. Names iteration, descent step, step size,
                and the images of the batch, of which the first three if none is to blame alone.
        """
        figures = _fetched(outputs or {})
        if not all(map(math.isfinite, figures.values())):
            raise FloatingPointError(_describe(figures, runner, _blame(data_batch)))
        if self._checkpoint_due(runner):
            _check_weights(runner, iteration=runner.iter + 1)

    def after_train_epoch(self, runner: Runner) -> None:
        """Check the weights.

        Raises:
            FloatingPointError: one is NaN or infinite. Names the parameter.
        """
        _check_weights(runner, iteration=runner.iter)  # the loop has counted the last one already

    def _checkpoint_due(self, runner: Runner) -> bool:
        """Whether a CheckpointHook that counts iterations saves after this one."""
        hooks = (h for h in runner.hooks if isinstance(h, CheckpointHook) and not h.by_epoch)
        return any(
            self.every_n_train_iters(runner, hook.interval, hook.save_begin)
            or (hook.save_last and self.is_last_train_iter(runner))
            for hook in hooks
        )


def _fetched(figures: dict[str, Any]) -> dict[str, float]:
    """The figures, tensors of one element or numbers, as numbers: the device is waited for once."""
    tensors = {k: v.detach().reshape(1) for k, v in figures.items() if isinstance(v, torch.Tensor)}
    fetched = torch.cat(list(tensors.values())).tolist() if tensors else []
    return figures | dict(zip(tensors, fetched, strict=True))


def _describe(figures: dict[str, float], runner: Runner, blame: str) -> str:
    bad = {name: value for name, value in figures.items() if not math.isfinite(value)}
    steps = sorted(
        int(name.removeprefix('distance_step'))
        for name in bad
        if name.startswith('distance_step') and name.removeprefix('distance_step').isdigit()
    )
    if not steps:
        where = 'The distances of all descent steps are finite'
        advice = ''
    elif steps[0] == 0:
        where = 'Descent step 0, the corrupted input itself, is where it begins'
        advice = 'Look at the data: images, corruption and normalisation come before the network. '
    else:
        where = f'Descent step {steps[0]} is where it begins'
        advice = ''
    if not any(name.startswith('distance_step') for name in figures):
        where = 'The model reports no distance per descent step'
    return (
        f'Not finite at iteration {runner.iter + 1} (epoch {runner.epoch + 1}): {_listed(bad)}. '
        f'{where}; step_size={figures.get("step_size", "not reported")}. {blame}{advice}{_ADVICE}'
    )


def _blame(batch: Any) -> str:
    """The images of a batch; of those of which an input is not finite, if there are such."""
    if not isinstance(batch, dict):
        return ''
    samples, inputs = batch.get('data_samples') or [], batch.get('inputs')
    several = isinstance(inputs, list | tuple) and len(inputs) and not _is_image(inputs[0])
    views = inputs if several else [inputs]  # [corrupted, clean], or one
    views = [v for v in views if isinstance(v, Sequence | torch.Tensor) and len(v) == len(samples)]
    bad = [
        sample
        for index, sample in enumerate(samples)
        if not all(torch.isfinite(torch.as_tensor(view[index])).all() for view in views)
    ]
    names = [sample.get('img_path') or sample.get('sample_idx') for sample in bad or samples]
    if not names or names[0] is None:
        return ''
    what = 'Not finite as they come from the data' if bad else 'The batch'
    return f'{what}: {", ".join(map(str, names[:3]))}{", ..." if len(names) > 3 else ""}. '


def _is_image(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dim() == 3


def _check_weights(runner: Runner, iteration: int) -> None:
    parameters = runner.model.named_parameters()
    bad = [name for name, values in parameters if not torch.isfinite(values).all()]
    if bad:
        raise FloatingPointError(
            f'Weights not finite after iteration {iteration} (epoch {runner.epoch + 1}), under a '
            f'finite loss: {len(bad)} parameters, e.g. {", ".join(bad[:3])}. {_ADVICE}'
        )


def _listed(figures: dict[str, float]) -> str:
    return ', '.join(f'{name}={value}' for name, value in figures.items())


_ADVICE = (
    'The state of this iteration is not saved; earlier checkpoints are sound. Go on from one, or '
    'start again, with a lower learning rate (optim_wrapper.optimizer.lr; --lr of mmebm pretrain), '
    'a smaller step size (model.step_size), or bf16 in place of fp16 (optim_wrapper.dtype).'
)
