"""The config of a run: what is chosen, and why."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict

from ...datasets import passes_in_round
from ...utils.shipped_files import shipped
from .images import Images
from .inpainting import MASKED_SHARE, inpainting_model
from .network import Network

BASES = (
    'models/energy_vit-small-p16.py',
    'datasets/imagenet_bs32.py',
    'schedules/adamw_bs256_100e.py',
    'default_runtime.py',
)
ENERGIES = ('restoration', 'inpainting')
CORRUPTIONS = ('mixed', 'masking', 'super-resolution', 'denoising', 'colorization')
BATCH_SIZES = dict(cuda=256, cpu=32)  # at most: the paper's; on a CPU more steps are worth more
LEARNING_RATE, REFERENCE_BATCH = 1e-3, 32  # linear up to this batch, then constant
ROUND_SECONDS = 20.0  # an interrupted run ends after so long
ROUNDS = 20  # at least, so that short runs are validated and saved in between
MOST_SINGLE = 200  # iterations of a run whose rounds may be of one, so that their number is exact
SAVE_SECONDS = 300.0
VALIDATION_SHARE = 0.05  # of the time
WARM_UP = 0.05  # of the iterations
MAX_NORM = 0.3  # of all gradients together; ours
MAX_UNREADABLE = 0.5  # share of the images; the run goes on without them


@dataclass(frozen=True)
class Speed:
    """What a run takes, as measured.

    Attributes:
        iteration: seconds of a training iteration.
        validation: seconds of a validation.
        start: seconds until the first iteration.
    """

    iteration: float
    validation: float
    start: float = 0.0


@dataclass(frozen=True)
class Length:
    """How long a run is.

    Attributes:
        rounds: epochs, to the runner.
        per_round: iterations in each.
        save_interval, validation_interval: in rounds.
    """

    rounds: int
    per_round: int
    save_interval: int
    validation_interval: int

    @property
    def iterations(self) -> int:
        return self.rounds * self.per_round


def length_of(speed: Speed, iterations: int | None = None, seconds: float | None = None) -> Length:
    """Split a run into rounds, and place its validations and checkpoints.

    Args:
        speed: as measured.
        iterations: of the run, ≥ 1, exact up to 200, above rounded to whole rounds; or:
        seconds: of the whole run, start and validations included, > 0.
    """
    if iterations is None:
        iterations = max(
            1, round((seconds - speed.start) * (1 - VALIDATION_SHARE) / speed.iteration)
        )
    total = iterations * speed.iteration
    rounds = min(iterations, max(ROUNDS, math.ceil(total / ROUND_SECONDS)))
    wanted = max(1, round(iterations / rounds))
    # close to it, and exact if possible: rounds that add up to the iterations asked for
    exact = [n for n in range(wanted // 2 + 1, 2 * wanted) if iterations % n == 0]
    otherwise = wanted if iterations > MOST_SINGLE else 1
    per_round = min(exact, key=lambda n: abs(n - wanted), default=otherwise)
    rounds = max(1, round(iterations / per_round))
    each = total / rounds
    most = max(1, math.floor(total * VALIDATION_SHARE / max(speed.validation, 1e-9)))
    validations = min(most, ROUNDS, rounds)
    if seconds is not None:  # the time that validations do not take
        left = seconds - speed.start - validations * speed.validation
        rounds = max(1, round(left / (per_round * speed.iteration)))
    return Length(
        rounds=rounds,
        per_round=per_round,
        save_interval=max(1, min(rounds, round(SAVE_SECONDS / each))),
        validation_interval=max(1, math.ceil(rounds / validations)),
    )


def suitable_scale(size: int) -> int:
    """Of super-resolution, for images of a side of ``size`` pixels."""
    return 16 if size >= 160 else 8 if size >= 48 else 4


def edge_before_crop(size: int) -> int:
    """The short side of a held-out image, in pixels, before its centre of ``size`` is cut out."""
    return round(size * 256 / 224) if size >= 128 else size


def corruption_of(kind: str, size: int) -> dict:
    """The config of a corruption, with cells and scales that suit the image size.

    Args:
        kind: one of :data:`CORRUPTIONS`.
        size: side of the images in pixels.
    """
    cell = max(4, size // 14)
    single = {
        'masking': dict(type='GriddedMask', patch_size=cell, ratio=0.5),
        'super-resolution': dict(type='SuperResolution', scale=suitable_scale(size)),
        'denoising': dict(type='GaussianNoise', gamma_range=(0.0, 1.0)),
        'colorization': dict(type='Colorization'),
    }
    if kind == 'mixed':
        return dict(type='MixedCorruption', corruptions=list(single.values()))
    return single[kind]


@dataclass(frozen=True)
class Choices:
    """What was asked for or chosen, with which a config is written."""

    energy: str
    corruption: str | None
    num_steps: int
    batch_size: int
    processes: int
    learning_rate: float
    precision: str
    workers: int
    compile_step: bool
    seed: int
    start: str | None
    seconds_before: float = 0.0  # that were spent on these choices


def config_of(
    out: Path, images: Images, network: Network, choices: Choices, length: Length
) -> Config:
    """The config of the run, without a base, for ``tools/train.py`` as for this one."""
    size = network.image_size
    config = _base()
    augmentation, preparation = config.pop('train_augmentation'), config.pop('val_preparation')
    pack = config.pop('pack')
    augmentation[1].scale = size
    preparation[1].scale, preparation[2].crop_size = edge_before_crop(size), size
    if choices.energy == 'inpainting':
        model = inpainting_model(network)
        corruption = dict(type='GriddedMask', patch_size=network.patch_size, ratio=MASKED_SHARE)
        if choices.start is None:  # then it is sin-cos, and stays so, as MAE's
            config.optim_wrapper.paramwise_cfg.custom_keys.pos_embed = dict(lr_mult=0.0)
    else:
        head = dict(config.model.head, in_channels=network.in_channels)
        model = dict(backbone=network.config, head=head)
        corruption = corruption_of(choices.corruption, size)
    config.model = ConfigDict({**config.model, **model})  # not update(), which merges
    config.model.num_steps = choices.num_steps
    config.model.compile_step = choices.compile_step

    round_size = length.per_round * choices.batch_size * choices.processes
    for loader in (config.train_dataloader, config.val_dataloader):
        loader.update(
            batch_size=choices.batch_size,
            num_workers=choices.workers,
            persistent_workers=choices.workers > 0,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=dict(type='own_process_group'),
        )
        loader.dataset.pop('data_prefix')
        loader.dataset.data_root = str(images.root)
    config.train_dataloader.sampler = dict(type='RoundSampler', round_size=round_size)
    config.train_dataloader.dataset.update(
        ann_file=str(out / 'train.txt'),
        repeats=passes_in_round(round_size, len(images.train)),
        pipeline=[*augmentation, corruption, pack],
    )
    config.val_dataloader.dataset.update(
        ann_file=str(out / 'held_out.txt'),
        with_label=bool(images.classes),
        pipeline=[*preparation, dict(**corruption, seed=0), pack],
    )

    config.optim_wrapper.update(dtype=choices.precision, clip_grad=dict(max_norm=MAX_NORM))
    config.optim_wrapper.optimizer.lr = choices.learning_rate
    warm_up, decay = config.param_scheduler
    begin = max(1, round(WARM_UP * length.iterations))
    for scheduler in (warm_up, decay):
        scheduler.pop('convert_to_iter_based')
        scheduler.by_epoch = False
    warm_up.update(start_factor=0.01, end=begin)
    decay.update(
        T_max=max(1, length.iterations - begin),
        begin=begin,
        end=max(begin + 1, length.iterations),
    )
    config.train_cfg.update(max_epochs=length.rounds, val_interval=length.validation_interval)
    config.default_hooks.logger.interval = max(1, min(10, length.per_round))
    config.default_hooks.checkpoint = dict(
        type='CheckpointHook', interval=length.save_interval, max_keep_ckpts=2
    )
    for hook in config.custom_hooks:
        if hook.type == 'UnreadableImagesHook':
            hook.max_share = MAX_UNREADABLE
    config.custom_hooks = [
        *(hook for hook in config.custom_hooks if hook.type != 'RestorationVisualizationHook'),
        *_hooks(images, network, choices),
    ]
    config.randomness.seed = choices.seed
    config.work_dir = str(out)
    return config


def _hooks(images: Images, network: Network, choices: Choices) -> list[dict]:
    hooks = [
        dict(type='GracefulStopHook'),
        dict(type='ReportHook', seconds_before=round(choices.seconds_before)),
    ]
    if choices.start is not None:
        hooks.append(dict(type='PretrainedBackboneHook', checkpoint=choices.start))
    elif network.sincos:
        hooks.append(dict(type='SinCosPositionEmbeddingHook'))
    if images.classes:
        hooks.append(dict(type='NeighbourAccuracyHook'))
    return hooks


def _base() -> Config:
    """The configs that those of the paper inherit from, merged; without tests."""
    merged = {}
    for name in BASES:
        merged |= Config.fromfile(shipped(f'configs/_base_/{name}')).to_dict()
    for name in ('data_root', 'auto_scale_lr', *(n for n in merged if n.startswith('test_'))):
        del merged[name]
    return Config(merged)
