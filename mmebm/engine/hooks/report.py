"""The page of a run, rewritten while it trains."""

import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from torch.utils.data import DataLoader

from ...datasets import RoundSampler, leaf_datasets
from ...evaluation.energy_metric import ImageEnergies, auroc
from ...evaluation.knn import nearest
from ...evaluation.samples import by_corruption
from ...models.autoencoder import RestorationAutoEncoder
from ...models.base_algorithm import BaseEnergyAlgorithm, PredictingSelfSupervisor
from ...models.chain import Chain, to_uint8
from ...models.features import pooled_features
from ...utils import checked_int, checked_number
from ...utils.device import device_name
from ...utils.run_history import read_history
from ...version import __version__
from ...visualization.page import write_page
from ...visualization.report_page import Energies, Neighbours, RunReport, report_page
from .unreadable_images import UnreadableImagesHook

GALLERY = 128  # held-out images that are kept during a validation, evenly spread
QUERIES = 6  # of them, whose neighbours are shown
BATCH = 32
PACKAGES = ('torch', 'torchvision', 'timm', 'mmengine', 'mmcv', 'mmpretrain', 'numpy')
BORROWED = (
    'Each restored patch borrows its mean and variance from the original, in pictures and in PSNR: '
    'this energy is for features.'
)
_SECONDS = 'report_seconds'  # in a checkpoint's meta


@dataclass(frozen=True)
class HeldOut:
    """A sample of the validation set, as its loader gave it, on the CPU.

    Attributes:
        inputs: tensors of this sample, of each input of the batch.
        single: whether the batch has one input and no list of them.
        sample: what else is known of it, without results.
    """

    inputs: list[Tensor]
    single: bool
    sample: DataSample

    @property
    def corruption(self) -> str:
        return self.sample.get('corruption') or ''

    @property
    def path(self) -> str:
        return self.sample.get('img_path') or ''


@HOOKS.register_module()
class ReportHook(Hook):
    """Write ``report.html`` into the work dir: at every validation, and at the end.

    One file that needs no other and no network. It has curves (loss, PSNR gain per corruption,
    AUROC, step size, ...), held-out images on their way from corrupted to restored, histograms of
    their energies, nearest neighbours in the backbone's features, unreadable files, the time taken,
    versions and all settings. What a method does not have is left out: an auto-encoder has no
    energy, sorting no PSNR, MMPretrain's own methods no validation; then it is written after every
    epoch.

    The curves come from the ``scalars.json`` of all starts of the run, which MMEngine's
    ``LocalVisBackend`` writes, so that they go on where a run is resumed. A metric that reports
    ``knn/accuracy``, in 0..1, is shown as the accuracy of nearest neighbours.

    Of the validation set 128 images are kept while it runs. Their features cost one forward pass
    each, the chains a descent each. Several processes each give their energies; the first one keeps
    images and writes.

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
        self._gallery: list[HeldOut] = []
        self._pictures: dict[str, Any] = {}  # of the last validation, for RunReport

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
        self._energies, self._gallery, self._seen = [], [], 0
        # of this process's part; those after the last image only fill the last batch
        count = len(runner.val_dataloader.sampler)
        self._kept = set(np.linspace(0, count - 1, min(GALLERY, count)).round().astype(int))

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence[DataSample] | None = None,
    ) -> None:
        """Keep the energies of the batch, and a few of its images."""
        if self._begin is None:
            return
        if outputs and 'energy_clean' in outputs[0]:
            clean, corrupted = (
                torch.stack([torch.as_tensor(sample.get(key)) for sample in outputs]).tolist()
                for key in ('energy_clean', 'energy_corrupted')
            )
            names = [sample.get('corruption') for sample in outputs]
            self._energies += map(ImageEnergies, names, clean, corrupted)
        if is_main_process() and isinstance(_unwrapped(runner.model), PredictingSelfSupervisor):
            samples = data_batch['data_samples']
            for i, sample in enumerate(samples):
                if self._seen + i in self._kept:
                    self._gallery.append(_held_out(data_batch['inputs'], i, sample))
            self._seen += len(samples)

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        if self._begin is None:  # runner.val() alone
            return
        energies = [e for part in all_gather_object(self._energies) for e in part]
        if is_main_process():
            self._pictures = self._look(_unwrapped(runner.model), energies)
            self._write(runner)
        self._energies, self._gallery = [], []

    def after_train_epoch(self, runner: Runner) -> None:
        if runner.val_loop is None and is_main_process():
            self._write(runner)

    def after_train(self, runner: Runner) -> None:
        if is_main_process():
            self._write(runner)

    def _seconds(self) -> float:
        """Of all starts, as far as checkpoints know of them."""
        return self._loaded_seconds + time.perf_counter() - self._begin

    def _look(self, model: nn.Module, energies: Sequence[ImageEnergies]) -> dict[str, Any]:
        """What the page shows of a validation, by the names of :class:`RunReport`."""
        names = _below_their_folder([held.path for held in self._gallery])
        chosen = choose_evenly([held.corruption for held in self._gallery], self.num_chains)
        chains = make_chains(model, [self._gallery[i] for i in chosen]) if chosen else []
        return dict(
            energies=[
                Energies(name or 'all images', clean, corrupted, auroc(clean, corrupted))
                for name, part in by_corruption(energies).items()
                for clean, corrupted in [([e.clean for e in part], [e.corrupted for e in part])]
            ],
            chains=chains,
            names=[names[i] for i in chosen[: len(chains)]],
            neighbours=find_neighbours(model, self._gallery, names, self.num_neighbours),
            gallery=len(self._gallery),
        )

    def _write(self, runner: Runner) -> None:
        per_round = per_epoch = None
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            per_round = len(runner.train_dataloader)
            per_epoch = per_round / _passes_per_round(runner.train_dataloader)
        history = read_history(runner.work_dir, per_round, self._resumed_at)
        report = RunReport(
            title=f'Pretraining of {backbone_name(runner)}',
            state=_state(runner, per_epoch),
            note=BORROWED if getattr(_unwrapped(runner.model), 'norm_pix', False) else '',
            history=history,
            iterations_per_epoch=per_epoch,
            skipped=_unreadable(runner),
            facts=self._facts(runner),
            versions=versions(),
            settings=self._settings,
            **self._pictures,
        )
        path = Path(runner.work_dir, self.filename)
        try:
            write_page(path, report_page(report))
        except OSError as error:  # no reason to end a long run
            runner.logger.warning(f'{path} could not be written: {error}')

    def _facts(self, runner: Runner) -> dict[str, str]:
        model, processes = _unwrapped(runner.model), get_world_size()
        device = next(model.parameters()).device
        facts = dict(
            method=type(model).__name__,
            backbone=backbone_name(runner),
        )
        if hasattr(model, 'backbone'):
            size = sum(p.numel() for p in model.backbone.parameters())
            facts['parameters'] = f'{size / 1e6:.2f} million in the backbone'
        facts['training images'] = f'{_num_images(runner.train_dataloader.dataset):,}'
        if runner.val_loop is not None:
            facts['held-out images'] = f'{_num_images(runner.val_dataloader.dataset):,}'
        each = f'{processes} × ' if processes > 1 else ''
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


def choose_evenly(groups: Sequence[str], count: int) -> list[int]:
    """Indices of at most ``count`` items, in the order of the groups.

    As many of each group as of the others, as far as it has them, and evenly spread inside it.
    """
    members: dict[str, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    shares = dict.fromkeys(sorted(members), 0)
    for _ in range(min(count, len(groups))):
        free = [group for group in shares if shares[group] < len(members[group])]
        shares[min(free, key=shares.get)] += 1
    return [
        members[group][i * len(members[group]) // share]
        for group, share in shares.items()
        for i in range(share)
    ]


@torch.no_grad()
def make_chains(model: nn.Module, held_out: Sequence[HeldOut]) -> list[Chain]:
    """Restore or sort images; an auto-encoder does so in one step, and has no energy.

    Returns:
        A chain per image, or none for a method that makes no pictures.
    """
    batch = _collated(held_out)
    data = model.data_preprocessor(batch, False)
    if isinstance(model, BaseEnergyAlgorithm):
        return model.validation_chains(data['inputs'], data['data_samples'])
    if not isinstance(model, RestorationAutoEncoder):
        return []
    chains = []
    for sample in model.predict(data['inputs'], data['data_samples']):
        clean, *images = (
            sample.get(name).movedim(0, -1).cpu().numpy()
            for name in ('clean', 'corrupted', 'restored')
        )
        title = sample.get('corruption') or ''
        chains.append(Chain(np.stack(images), np.full(2, np.nan), clean, title=title))
    return chains


@torch.no_grad()
def find_neighbours(
    model: nn.Module,
    gallery: Sequence[HeldOut],
    names: Sequence[str],
    count: int,
    queries: int = QUERIES,
) -> list[Neighbours]:
    """The nearest ``count`` of the other images, for a few evenly spread ones.

    Returns:
        One per query; none if there are fewer than two images, or features that are not finite.
    """
    count = min(count, len(gallery) - 1)
    if count < 1:
        return []
    features, pictures = [], []
    for start in range(0, len(gallery), BATCH):
        inputs = model.data_preprocessor(_collated(gallery[start : start + BATCH]), False)['inputs']
        clean = inputs if isinstance(inputs, Tensor) else inputs[1]
        features.append(pooled_features(model, clean))
        pictures += list(to_uint8(model.to_pixels(clean).movedim(1, -1).cpu().numpy()))
    features = torch.cat(features)
    if not torch.isfinite(features).all():
        return []
    asked = np.unique(np.linspace(0, len(gallery) - 1, min(queries, len(gallery))).astype(int))
    similarities, indices = nearest(features, features[asked], count + 1)
    return [
        Neighbours(
            pictures[query],
            names[query],
            [
                (pictures[i], names[i], s)
                for s, i in zip(row.tolist(), found.tolist(), strict=True)
                if i != query
            ][:count],
        )
        for query, row, found in zip(asked.tolist(), similarities, indices, strict=True)
    ]


def _below_their_folder(paths: Sequence[str]) -> list[str]:
    """Paths without the folders that all have in common."""
    if not all(paths):
        return [''] * len(paths)
    folder = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ''
    return [os.path.relpath(path, folder) for path in paths]


def _held_out(inputs: Tensor | Sequence[Tensor], i: int, sample: DataSample) -> HeldOut:
    single = isinstance(inputs, Tensor)
    # clones: a view would keep the whole batch, and the model writes its results into the sample
    parts = [x[i].clone() for x in ([inputs] if single else inputs)]
    known = {key: sample.get(key) for key in ('sample_idx', 'img_path', 'corruption')}
    known = {key: value for key, value in known.items() if value is not None}
    return HeldOut(parts, single, DataSample(metainfo=known))


def _collated(held_out: Sequence[HeldOut]) -> dict[str, Any]:
    parts = [torch.stack(x) for x in zip(*(held.inputs for held in held_out), strict=True)]
    samples = [DataSample(metainfo=dict(held.sample.metainfo)) for held in held_out]
    return dict(inputs=parts[0] if held_out[0].single else parts, data_samples=samples)


# What is known of the run -----------------------------------------------------------------------


def backbone_name(runner: Runner) -> str:
    """The backbone in words: of the config where it says more than the class."""
    model = _unwrapped(runner.model)
    config = runner.cfg.get('model')
    config = config.get('backbone') if isinstance(config, Mapping) else None
    while isinstance(config, Mapping) and isinstance(config.get('backbone'), Mapping):
        config = config['backbone']
    if isinstance(config, Mapping) and 'type' in config:
        kind = config['type'] if isinstance(config['type'], str) else config['type'].__name__
        if config.get('model_name'):
            return str(config['model_name'])
        arch = config.get('arch')
        return f'{kind} {arch}' if isinstance(arch, str) else kind.split('.')[-1]
    return type(getattr(model, 'backbone', model)).__name__


def versions() -> dict[str, str]:
    """What the figures were made with."""
    found = dict(mmebm=__version__, python=platform.python_version())
    found |= {name: import_module(name).__version__ for name in PACKAGES}
    return found | {'system': f'{platform.system()} {platform.machine()}'}


def _passes_per_round(loader: DataLoader) -> float:
    """Passes over the images in what the runner counts as an epoch."""
    sampler = loader.sampler
    if isinstance(sampler, RoundSampler):
        return sampler.round_size / sampler.num_images
    return 1.0


def _state(runner: Runner, per_epoch: float | None) -> str:
    state = 'Finished' if runner.iter >= runner.max_iters else 'So far'
    each, unit = (per_epoch, 'epochs') if per_epoch else (1, 'iterations')
    done, total = round(runner.iter / each, 1), round(runner.max_iters / each, 1)
    return f'{state}: {done:,g} of {total:,g} {unit}. Written {time.strftime("%Y-%m-%d %H:%M")}.'


def _unreadable(runner: Runner) -> list[str]:
    """Paths of what could not be read: as listed for all processes, and as seen by this one."""
    file = Path(runner.work_dir, UnreadableImagesHook.filename)
    paths: set[str] = set()
    if file.exists():
        paths |= set(file.read_text(encoding='utf-8', errors='surrogateescape').splitlines())
    loops = [loop for loop in (runner.train_loop, runner.val_loop) if loop is not None]
    for leaf in (leaf for loop in loops for leaf in leaf_datasets(loop.dataloader.dataset)):
        if hasattr(leaf, 'unreadable_images'):
            paths |= set(leaf.unreadable_images())
    return sorted(paths)


def _num_images(dataset: Any) -> int:
    return sum(getattr(leaf, 'num_images', len(leaf)) for leaf in leaf_datasets(dataset))


def _unwrapped(model: nn.Module) -> nn.Module:
    return model.module if is_model_wrapper(model) else model
