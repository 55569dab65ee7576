"""Training on top of a pretrained backbone: what a run begins from, and when it may be resumed."""

import hashlib
from contextlib import suppress
from os.path import isfile
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS

from ...backbones.weights import load_backbone, read_backbone_tensors
from ...utils.checkpoint import load_checkpoint_safely, newest_sound_checkpoint

_NOT_GIVEN = (None, '', 'none')
_KEY = 'pretrained_backbone'  # in a checkpoint's meta


@HOOKS.register_module()
class PretrainedBackboneHook(Hook):
    """Start training from a pretrained backbone, and from nothing else.

    Fills ``model.backbone`` right before the first iteration, of whatever kind the model is (a
    classifier, a segmentor), logs how many of its tensors were filled, and stops the run where the
    checkpoint is missing or does not fit; see :func:`mmebm.backbones.load_backbone`. This is a hook
    and no ``init_cfg``, because modules initialise themselves after any ``init_cfg`` but MMEngine's
    own ``Pretrained``, which silently loads what fits.

    Each checkpoint of the run records in ``meta['pretrained_backbone']`` what the run began from:
    the file as it was given, and the :func:`fingerprint <backbone_fingerprint>` of its backbone. A
    resumed run keeps its own weights; where a pretrained checkpoint is given, it must be the
    recorded one, in whatever place the file lies now.

    Args:
        checkpoint: the file. The configs here take it from the environment variable
            ``PRETRAINED``. ``'none'`` is an error once training starts anew.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: none was given; it belongs to another network; ``load_from`` is set as well; or
            the run, or the one in the work dir that it would overwrite, began from another one.
    """

    priority = 'LOW'  # after hooks that initialise parts of the model

    def __init__(self, checkpoint: str | None = None):
        self.checkpoint = checkpoint
        self._start: dict[str, str] | None = None  # what goes into the checkpoints
        self._loaded = False

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self._loaded = True
        self._start = _recorded_start(checkpoint)

    def before_train(self, runner: Runner) -> None:
        if runner.iter > 0:
            if self._start is not None:  # older checkpoints do not record it
                self._check_resumed(runner.work_dir)
            return
        if self._loaded:
            raise ValueError(
                'load_from is set, which loads what fits and leaves the rest random: give the '
                'checkpoint as PRETRAINED=FILE instead'
            )
        start = _start(self.checkpoint)
        _check_work_dir(runner.work_dir, start)
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        filled = load_backbone(model.backbone, self.checkpoint)
        self._start = start
        runner.logger.info(f'{self.checkpoint}: {filled}')

    def _check_resumed(self, work_dir: str) -> None:
        """Check that a resumed run began from the given checkpoint, if one is given."""
        start, given = self._start, self.checkpoint
        _check_work_dir(work_dir, start)
        # the file may be gone by now: it is not needed any more
        if given in _NOT_GIVEN or (given == start['checkpoint'] and not isfile(given)):
            return
        given = _start(given)
        if given['sha256'] != start['sha256']:
            raise ValueError(
                f'the resumed run began from {_described(start)}, but {_described(given)} is given:'
                ' resume without PRETRAINED, or start another run with a --work-dir of its own'
            )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if self._start is not None:
            checkpoint['meta'][_KEY] = self._start


def check_pretrained_backbone(cfg: Config) -> None:
    """Check that a run that is not resumed has what it begins from, before anything is built."""
    for hook in [*(cfg.get('default_hooks') or {}).values(), *(cfg.get('custom_hooks') or [])]:
        resumed = cfg.get('resume') and (cfg.get('load_from') or _newest(cfg.work_dir))
        kind = str(hook.get('type')).split('.')[-1] if hook else None
        if kind == PretrainedBackboneHook.__name__ and not resumed:
            _start(hook.get('checkpoint'))


def _start(checkpoint: str | None) -> dict[str, str]:
    """What is recorded of a run that begins from a checkpoint; ValueError if none is given."""
    if checkpoint in _NOT_GIVEN:
        raise ValueError(
            'this config trains on top of a pretrained backbone, but no checkpoint is given: set '
            'the environment variable PRETRAINED=FILE, or take a config whose name begins with '
            'scratch'
        )
    return dict(checkpoint=checkpoint, sha256=backbone_fingerprint(checkpoint))


def backbone_fingerprint(path: str) -> str:
    """The SHA-256 of a backbone's tensors, of whatever format: names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(read_backbone_tensors(path).items()):
        digest.update(f'{name} {tensor.dtype} {tuple(tensor.shape)}\n'.encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _check_work_dir(work_dir: str, start: dict[str, str]) -> None:
    """Check that a run overwrites none that began from another checkpoint."""
    last = _newest(work_dir)
    if last is None or '://' in last:
        return
    other = _recorded_start(load_checkpoint_safely(last, mmap=True))
    if other is not None and other['sha256'] != start['sha256']:
        raise ValueError(
            f'the run in {work_dir} began from {_described(other)} and would be overwritten by one '
            f'from {_described(start)}: name another folder with --work-dir, or continue the old '
            'run with --resume and without PRETRAINED'
        )


def _newest(work_dir: str) -> str | None:
    with suppress(FileNotFoundError):
        return newest_sound_checkpoint(work_dir)[0]


def _recorded_start(checkpoint: dict[str, Any]) -> dict[str, str] | None:
    """What the run that wrote a checkpoint began from; None where the checkpoint is too old."""
    return (checkpoint.get('meta') or {}).get(_KEY)


def _described(start: dict[str, str]) -> str:
    return f'PRETRAINED={start["checkpoint"]} (weights {start["sha256"][:12]})'
