"""The page of a run, rewritten while it trains."""

import os
import platform
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmpretrain.registry import HOOKS
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from ..datasets import leaf_datasets
from ..engine.hooks import UnreadableImagesHook
from ..evaluation.energy_metric import ImageEnergies, auroc
from ..evaluation.knn import nearest
from ..evaluation.samples import by_corruption
from ..models.base_algorithm import BaseEnergyAlgorithm, PredictingSelfSupervisor
from ..models.chain import to_uint8
from ..models.features import pooled_features
from ..utils import checked_int, checked_number
from ..utils.device import device_name
from .history import read_history
from .page import write_page
from .run_page import Neighbour, report_page

GALLERY = 128  # held-out images whose features are compared, evenly spread
QUERIES = 6  # of them, whose neighbours are shown
BATCH = 32
PACKAGES = 'mmebm', 'torch', 'torchvision', 'timm', 'mmengine', 'mmcv', 'mmpretrain', 'numpy'
BORROWED = (
    'Each restored patch borrows its mean and variance from the original, in pictures and in PSNR: '
    'this energy is for features.'
)
_SECONDS = 'report_seconds'  # in a checkpoint's meta


@HOOKS.register_module()
class ReportHook(Hook):
    """Write ``report.html`` into the work dir: at every validation, and at the end.

    One file that needs no other and no network. It has curves (loss, PSNR gain per corruption,
    AUROC, step size, ...), held-out images on their way from corrupted to restored, histograms of
    their energies, nearest neighbours in the backbone's features, unreadable files, the time taken,
    versions and all settings. What a method does not have is left out; without validation it is
    written after every epoch.

    The curves come from the ``scalars.json`` of all starts of the run, which MMEngine's
    ``LocalVisBackend`` writes. A metric that reports ``knn/accuracy``, in 0..1, is shown as the
    accuracy of nearest neighbours. The features of 128 held-out images cost one forward pass each,
    the chains a descent each; only the first of several processes does this.

    Args:
        num_chains: held-out images that are restored on the page, ≥ 0.
        num_neighbours: of each of 6 images, ≥ 0.
        seconds_before: that were spent before the run and belong to its cost, ≥ 0.

    Raises:
        TypeError, ValueError: an option is no integer, or no number, ≥ 0.
    """

    priority = 'LOWEST'  # after LoggerHook, which writes the figures, and UnreadableImagesHook
    filename = 'report.html'

    def __init__(self, num_chains: int = 8, num_neighbours: int = 5, seconds_before: float = 0.0):
        self.num_chains = checked_int('num_chains', num_chains, minimum=0)
        self.num_neighbours = checked_int('num_neighbours', num_neighbours, minimum=0)
        self.seconds_before = checked_number('seconds_before', seconds_before, low=0)
        self._loaded_seconds = self.seconds_before
        self._begin: float | None = None  # until training begins
        self._energies: list[ImageEnergies] = []
        self._seen: dict[str, Any] = {}  # of the last validation, for report_page

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self._loaded_seconds = float(checkpoint.get('meta', {}).get(_SECONDS, 0.0))

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if self._begin is not None:
            checkpoint['meta'][_SECONDS] = self._seconds()

    def before_train(self, runner: Runner) -> None:
        self._begin = time.perf_counter()
        self._resumed_at = runner.iter
        if not self._resumed_at:  # load_from is no start of this run
            self._loaded_seconds = self.seconds_before
        self._settings = runner.cfg.pretty_text if is_main_process() else ''

    def before_val_epoch(self, runner: Runner) -> None:
        self._energies = []

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence[DataSample] | None = None,
    ) -> None:
        """Keep the energies of the batch."""
        for sample in outputs or []:
            if 'energy_clean' in sample:
                both = float(sample.energy_clean), float(sample.energy_corrupted)
                self._energies.append(ImageEnergies(sample.get('corruption'), *both))

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        energies = [e for part in all_gather_object(self._energies) for e in part]
        if self._begin is None or not is_main_process():  # runner.val() alone
            return
        found = {}
        for name, part in by_corruption(energies).items():
            both = [e.clean for e in part], [e.corrupted for e in part]
            found[name or 'all images'] = (*both, auroc(*both))
        self._seen = dict(energies=found)
        model = _unwrapped(runner.model)
        if isinstance(model, PredictingSelfSupervisor):
            dataset = runner.val_dataloader.dataset
            images = evenly(range(len(dataset)), GALLERY)
            samples = [dataset[i] for i in images]
            names = _below_their_folder([s['data_samples'].get('img_path', '') for s in samples])
            corruptions = [s['data_samples'].get('corruption', '') for s in samples]
            ordered = sorted(range(len(samples)), key=lambda i: corruptions[i])
            chosen = evenly(ordered, self.num_chains)
            collate, chains = runner.val_dataloader.collate_fn, []
            if chosen and isinstance(model, BaseEnergyAlgorithm):
                data = model.data_preprocessor(collate([samples[i] for i in chosen]), False)
                chains = model.validation_chains(data['inputs'], data['data_samples'])
            features, pictures = features_of(model, samples, collate)
            self._seen |= dict(
                chains=list(zip(chains, (names[i] for i in chosen), strict=False)),
                neighbours=find_neighbours(features, pictures, names, self.num_neighbours),
                gallery=len(samples),
            )
        self._write(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        if runner.val_loop is None:
            self._write(runner)

    def after_train(self, runner: Runner) -> None:
        self._write(runner)

    def _seconds(self) -> float:
        """Of all starts, as far as checkpoints know of them."""
        return self._loaded_seconds + time.perf_counter() - self._begin

    def _write(self, runner: Runner) -> None:
        if not is_main_process():
            return
        per_round = None
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            per_round = len(runner.train_dataloader)
        unreadable = Path(runner.work_dir, UnreadableImagesHook.filename)
        paths = []
        if unreadable.exists():
            text = unreadable.read_text(encoding='utf-8', errors='surrogateescape')
            paths = text.splitlines()
        page = report_page(
            f'Pretraining of {backbone_name(runner)}',
            _state(runner),
            BORROWED if getattr(_unwrapped(runner.model), 'norm_pix', False) else '',
            read_history(runner.work_dir, per_round, self._resumed_at),
            skipped=paths,
            facts=self._facts(runner),
            versions=versions(),
            settings=self._settings,
            **self._seen,
        )
        try:
            write_page(Path(runner.work_dir, self.filename), page)
        except OSError as error:  # no reason to end a long run
            runner.logger.warning(f'{self.filename} could not be written: {error}')

    def _facts(self, runner: Runner) -> dict[str, str]:
        model, processes = _unwrapped(runner.model), get_world_size()
        device = next(model.parameters()).device
        each = f'{processes} × ' if processes > 1 else ''
        facts = dict(method=type(model).__name__, backbone=backbone_name(runner))
        if hasattr(model, 'backbone'):
            size = sum(p.numel() for p in model.backbone.parameters())
            facts['parameters'] = f'{size / 1e6:.2f} million in the backbone'
        loops = {'training images': runner.train_loop, 'held-out images': runner.val_loop}
        for name, loop in loops.items():
            if loop is not None:
                leaves = leaf_datasets(loop.dataloader.dataset)
                facts[name] = f'{sum(getattr(x, "num_images", len(x)) for x in leaves):,}'
        facts |= {
            'batch': f'{each}{runner.train_dataloader.batch_size}',
            'device': f'{each}{device_name(device)}',
            'cost': f'{self._seconds() / 3600:.3g} hours{" on each device" if each else ""}',
            'folder': str(Path(runner.work_dir).resolve()),
        }
        if device.type == 'cuda':
            gib = torch.cuda.max_memory_allocated(device) / 2**30
            facts['memory'] = f'{gib:.1f} GiB at most'
        return facts


# What is seen -----------------------------------------------------------------------------------


def evenly(items: Sequence, count: int) -> list:
    """At most ``count`` items, evenly spread."""
    count = min(count, len(items))
    return [items[i * len(items) // count] for i in range(count)]


@torch.no_grad()
def features_of(
    model: nn.Module, samples: Sequence[dict], collate: Any
) -> tuple[Tensor, list[np.ndarray]]:
    """Pooled features ``(M, D)`` of clean images, and these as uint8 RGB ``(H, W, 3)``."""
    features, pictures = [], []
    for start in range(0, len(samples), BATCH):
        batch = model.data_preprocessor(collate(samples[start : start + BATCH]), False)
        inputs = batch['inputs']
        clean = inputs if isinstance(inputs, Tensor) else inputs[1]
        features.append(pooled_features(model, clean))
        pictures += list(to_uint8(model.to_pixels(clean).movedim(1, -1).cpu().numpy()))
    return torch.cat(features), pictures


def find_neighbours(
    features: Tensor, pictures: Sequence[np.ndarray], names: Sequence[str], count: int
) -> list[list[Neighbour]]:
    """A few evenly spread images, each followed by the nearest ``count`` of the others.

    Returns:
        None if there are fewer than two images, or features that are not finite.
    """
    count = min(count, len(features) - 1)
    if count < 1 or not torch.isfinite(features).all():
        return []
    queries = evenly(range(len(features)), QUERIES)
    similarities, indices = nearest(features, features[queries], count + 1)
    rows = []
    for query, row, found in zip(queries, similarities.tolist(), indices.tolist(), strict=True):
        others = [(pictures[i], names[i], s) for i, s in zip(found, row, strict=True) if i != query]
        rows.append([(pictures[query], names[query], 1.0), *others[:count]])
    return rows


def _below_their_folder(paths: Sequence[str]) -> list[str]:
    """Paths without the folders that all have in common."""
    if not all(paths):
        return [''] * len(paths)
    folder = os.path.commonpath([os.path.dirname(path) for path in paths])
    return [os.path.relpath(path, folder) for path in paths]


# What is known of the run -----------------------------------------------------------------------


def backbone_name(runner: Runner) -> str:
    """The backbone in words: of the config where it says more than the class."""
    model = _unwrapped(runner.model)
    config = (runner.cfg.get('model') or {}).get('backbone') or {}
    while isinstance(config.get('backbone'), Mapping):
        config = config['backbone']
    kind = str(config.get('type', type(getattr(model, 'backbone', model)).__name__))
    arch = config.get('arch')
    arch = f' {arch}' if isinstance(arch, str) else ''
    return config.get('model_name') or f'{kind.split(".")[-1]}{arch}'


def versions() -> dict[str, str]:
    """What the figures were made with."""
    found = {name: import_module(name).__version__ for name in PACKAGES}
    return found | dict(python=platform.python_version(), system=platform.platform())


def _state(runner: Runner) -> str:
    state = 'Finished' if runner.iter >= runner.max_iters else 'So far'
    when = time.strftime('%Y-%m-%d %H:%M')
    return f'{state}: {runner.iter:,} of {runner.max_iters:,} iterations. Written {when}.'


def _unwrapped(model: nn.Module) -> nn.Module:
    return model.module if is_model_wrapper(model) else model
