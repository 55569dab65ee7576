"""The page of a run, rewritten while it trains."""

import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner
from mmpretrain.registry import HOOKS
from torch import Tensor

from ..datasets import leaf_datasets
from ..engine.hooks import UnreadableImagesHook
from ..engine.hooks.progress import unwrapped
from ..models.base_algorithm import BaseEnergyAlgorithm, PredictingSelfSupervisor
from ..models.chain import Chain
from ..models.features import pooled_features
from ..utils import checked_int, checked_number
from ..utils.device import device_name
from .history import read_history
from .page import write_page
from .run_page import last, report_page
from .verdict import contrast, duration, verdict

GALLERY = 128  # held-out images whose features are compared, evenly spread
BATCH = 32
PACKAGES = 'mmebm', 'torch', 'torchvision', 'timm', 'mmengine', 'mmcv', 'mmpretrain', 'numpy'
_SECONDS, _CONTRAST = 'report_seconds', 'report_contrast'  # in a checkpoint's meta


@HOOKS.register_module()
class ReportHook(Hook):
    """Write ``report.html`` into the work dir: at every validation, and at the end.

    One file that needs no other and no network: what was learnt (see
    :func:`mmebm.report.verdict.verdict`; the message hub has it as ``verdict``), curves from the
    ``scalars.json`` of MMEngine's ``LocalVisBackend``, restored held-out images, unreadable files,
    cost and settings. What a method does not have is left out; without validation it is written
    after every epoch. The features of 128 held-out images cost a forward pass each, the chains a
    descent each.

    Args:
        num_chains: held-out images that are restored on the page, ≥ 0.
        seconds_before: that were spent before the run and belong to its cost, ≥ 0.
        hours: that the run was given, > 0, for the page.
    """

    priority = 'LOWEST'  # after LoggerHook, which writes the figures, and UnreadableImagesHook
    filename = 'report.html'

    def __init__(self, num_chains: int = 8, seconds_before: float = 0, hours: float | None = None):
        self.hours = hours if hours is None else checked_number('hours', hours, above=0)
        self.num_chains = checked_int('num_chains', num_chains, minimum=0)
        self._loaded_seconds = self.seconds_before = checked_number(
            'seconds_before', seconds_before, low=0
        )
        self._begin: float | None = None  # until training begins; earlier by what was spent before
        self._start: float | None = None  # contrast of the features then
        self._seen: tuple[float | None, float] | None = None  # contrast then and now
        self._chains: list[tuple[Chain, str]] = []  # and their files, of the last validation

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        meta = checkpoint.get('meta', {})
        self._loaded_seconds, self._start = float(meta.get(_SECONDS, 0.0)), meta.get(_CONTRAST)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if self._begin is not None:
            seconds = time.perf_counter() - self._begin
            checkpoint['meta'] |= {_SECONDS: seconds, _CONTRAST: self._start}

    def before_train(self, runner: Runner) -> None:
        self._resumed_at = runner.iter  # load_from is no start of this run
        before = self._loaded_seconds if self._resumed_at else self.seconds_before
        self._begin = time.perf_counter() - before
        self._settings = runner.cfg.pretty_text  # slow
        if not self._resumed_at:
            model = unwrapped(runner.model)
            judged = runner.val_loop is not None and isinstance(model, PredictingSelfSupervisor)
            if judged and is_main_process():
                model.eval()
                self._start = self._look(runner)[1]
                model.train()

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        if self._begin is None or not is_main_process():  # runner.val() alone
            return
        model = unwrapped(runner.model)
        if isinstance(model, PredictingSelfSupervisor):
            samples, now = self._look(runner)
            samples.sort(key=lambda sample: sample['data_samples'].get('corruption', ''))
            shown, self._seen = evenly(samples, self.num_chains), (self._start, now)
            if shown and isinstance(model, BaseEnergyAlgorithm):
                data = model.data_preprocessor(runner.val_dataloader.collate_fn(shown), False)
                chains = model.validation_chains(data['inputs'], data['data_samples'])
                files = (Path(sample['data_samples'].get('img_path', '')) for sample in shown)
                self._chains = [(chain, f.name) for chain, f in zip(chains, files, strict=False)]
        if runner.iter < runner.max_iters:  # else after_train() follows
            self._write(runner)

    @torch.no_grad()
    def _look(self, runner: Runner) -> tuple[list[dict], float]:
        """Some held-out samples, evenly spread, and the contrast of their clean features."""
        dataset, model, features = runner.val_dataloader.dataset, unwrapped(runner.model), []
        samples = [dataset[i] for i in evenly(range(len(dataset)), GALLERY)]
        for start in range(0, len(samples), BATCH):
            batch = runner.val_dataloader.collate_fn(samples[start : start + BATCH])
            inputs = model.data_preprocessor(batch, False)['inputs']
            clean = inputs if isinstance(inputs, Tensor) else inputs[1]
            features.append(pooled_features(model, clean))
        return samples, contrast(torch.cat(features))

    def after_train_epoch(self, runner: Runner) -> None:
        if runner.val_loop is None and runner.iter < runner.max_iters:
            self._write(runner)

    def after_train(self, runner: Runner) -> None:
        self._write(runner)

    def _write(self, runner: Runner) -> None:
        if not is_main_process():
            return
        by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
        per_round = len(runner.train_dataloader) if by_epoch else None
        history = read_history(runner.work_dir, per_round, self._resumed_at)
        borrowed = getattr(unwrapped(runner.model), 'norm_pix', False)
        gain = None if borrowed else last(history, 'restoration/psnr_gain')
        knn = [r.figures['knn/accuracy'] for r in history if 'knn/accuracy' in r.figures]
        images, seconds = _count(runner.val_loop), time.perf_counter() - self._begin
        said = runner.iter, seconds, self.hours, gain, images, self._seen, knn
        said = verdict(*said) if images else []
        runner.message_hub.update_info('verdict', '\n'.join(said) or None)
        state = 'Finished' if runner.iter >= runner.max_iters else 'So far'
        state = f'{state}: {runner.iter:,} of {runner.max_iters:,} iterations.'
        skipped, name = Path(runner.work_dir, UnreadableImagesHook.filename), backbone_name(runner)
        skipped = skipped.read_text('utf-8', errors='surrogateescape') if skipped.exists() else ''
        page = report_page(
            history,
            images,
            borrowed,
            self._chains,
            title=f'Pretraining of {name}',
            said=[state, *said],
            skipped=skipped.splitlines(),
            facts=self._facts(runner, name, seconds),
            settings=self._settings,
        )
        try:
            write_page(Path(runner.work_dir, self.filename), page)
        except OSError as error:  # no reason to end a long run
            runner.logger.warning(f'{self.filename} could not be written: {error}')

    def _facts(self, runner: Runner, name: str, seconds: float) -> dict[str, str]:
        model, processes = unwrapped(runner.model), get_world_size()
        each = f'{processes} × ' if processes > 1 else ''
        size = sum(p.numel() for p in model.backbone.parameters())
        return {
            'written': time.strftime('%Y-%m-%d %H:%M'),
            'method': type(model).__name__,
            'backbone': f'{name}, {size / 1e6:.2f} million parameters',
            'training images': f'{_count(runner.train_loop):,}',
            'held-out images': f'{_count(runner.val_loop):,}',
            'batch': f'{each}{runner.train_dataloader.batch_size}',
            'device': f'{each}{device_name(next(model.parameters()).device)}',
            'cost': f'{duration(seconds)}{" on each device" if each else ""}',
            'folder': str(Path(runner.work_dir).resolve()),
            'versions': ', '.join(f'{p} {import_module(p).__version__}' for p in PACKAGES),
        }


def evenly(items: Sequence, count: int) -> list:
    """At most ``count`` items, evenly spread."""
    count = min(count, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def backbone_name(runner: Runner) -> str:
    """The backbone in words: of the config where it says more than the class."""
    config = (runner.cfg.get('model') or {}).get('backbone') or {}
    while isinstance(config.get('backbone'), Mapping):
        config = config['backbone']
    kind = config.get('type') or type(unwrapped(runner.model).backbone).__name__
    return config.get('model_name') or str(kind).split('.')[-1]


def _count(loop: BaseLoop | None) -> int:
    """Images of a loop."""
    leaves = leaf_datasets(loop.dataloader.dataset) if loop is not None else []
    return sum(getattr(leaf, 'num_images', len(leaf)) for leaf in leaves)
