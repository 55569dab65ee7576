"""The config of a run: what is chosen, and why."""

import math
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from ...datasets import passes_in_round
from .images import Images
from .network import Network

# BGR → RGB, then ImageNet's statistics, as in the other configs
PIXELS = dict(
    type='SelfSupDataPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
)
CORRUPTIONS = ('mixed', 'masking', 'super-resolution', 'denoising', 'colorization')
BATCH_SIZES = dict(cuda=256, cpu=32)  # at most: the paper's; on a CPU more steps are worth more
LEARNING_RATE, REFERENCE_BATCH = 1e-3, 32  # linear up to this batch, then constant
ROUND_SECONDS = 20.0  # an interrupted run ends after so long
ROUNDS = 20  # at least, so that short runs are validated and saved in between
SAVE_SECONDS = 300.0
VALIDATION_SHARE = 0.05  # of the time
WARM_UP = 0.05  # of the iterations


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
        iterations: of the run, ≥ 1; or:
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
    per_round = min(exact, key=lambda n: abs(n - wanted), default=wanted)
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

    corruption: str
    num_steps: int
    batch_size: int
    processes: int
    learning_rate: float
    precision: str
    workers: int
    compile_step: bool
    seed: int
    start: str | None


def config_of(
    out: Path, images: Images, network: Network, choices: Choices, length: Length
) -> Config:
    """The config of the run, without a base, for ``tools/train.py`` as for this one."""
    size = network.image_size
    corruption = corruption_of(choices.corruption, size)
    pack = dict(type='PackInputs', meta_keys=('sample_idx', 'img_path', 'corruption'))
    train = [
        dict(type='LoadImageFromFile'),
        dict(type='RandomResizedCrop', scale=size, crop_ratio_range=(0.2, 1.0)),
        dict(type='RandomFlip', prob=0.5),
        corruption,
        pack,
    ]
    held_out = [
        dict(type='LoadImageFromFile'),
        dict(type='ResizeEdge', scale=edge_before_crop(size), edge='short'),
        dict(type='CenterCrop', crop_size=size),
        dict(**corruption, seed=0),
        pack,
    ]
    loader = dict(
        num_workers=choices.workers,
        persistent_workers=choices.workers > 0,
        collate_fn=dict(type='default_collate'),
        worker_init_fn=dict(type='mmengine.own_process_group'),
    )
    folder = dict(type='ImageFolder', data_root=str(images.root))
    hooks = [
        dict(type='ReproducibleEpochsHook'),
        dict(type='UnreadableImagesHook'),
        dict(type='FiniteLossHook'),
        dict(type='GracefulStopHook'),
        dict(type='ReportHook'),
    ]
    if network.sincos and choices.start is None:
        hooks.append(dict(type='SinCosPositionEmbeddingHook'))
    if choices.start is not None:
        hooks.append(dict(type='PretrainedBackboneHook', checkpoint=choices.start))
    if images.classes:
        hooks.append(dict(type='NeighbourAccuracyHook'))
    warm_up = max(1, round(WARM_UP * length.iterations))
    round_size = length.per_round * choices.batch_size * choices.processes
    return Config(
        dict(
            default_scope='mmpretrain',
            custom_imports=dict(imports=['mmebm'], allow_failed_imports=False),
            model=dict(
                type='EnergyRestorationAlgorithm',
                backbone=network.config,
                head=dict(type='EnergyHead', in_channels=network.in_channels),
                num_steps=choices.num_steps,
                compile_step=choices.compile_step,
                data_preprocessor=PIXELS,
            ),
            train_dataloader=dict(
                batch_size=choices.batch_size,
                **loader,
                drop_last=True,
                sampler=dict(
                    type='RoundSampler',
                    round_size=round_size,
                ),
                dataset=dict(
                    **folder,
                    ann_file=str(out / 'train.txt'),
                    repeats=passes_in_round(round_size, len(images.train)),
                    pipeline=train,
                ),
            ),
            val_dataloader=dict(
                batch_size=choices.batch_size,
                **loader,
                sampler=dict(type='DefaultSampler', shuffle=False),
                dataset=dict(
                    **folder,
                    ann_file=str(out / 'held_out.txt'),
                    with_label=bool(images.classes),
                    test_mode=True,
                    pipeline=held_out,
                ),
            ),
            val_evaluator=[dict(type='RestorationMetric'), dict(type='EnergyMetric')],
            val_cfg=dict(),
            optim_wrapper=dict(
                type='MixedPrecisionOptimWrapper',
                dtype=choices.precision,
                clip_grad=dict(max_norm=0.3),
                optimizer=dict(
                    type='AdamW', lr=choices.learning_rate, betas=(0.9, 0.95), weight_decay=0.05
                ),
                paramwise_cfg=dict(
                    norm_decay_mult=0.0,
                    bias_decay_mult=0.0,
                    custom_keys=dict(
                        pos_embed=dict(decay_mult=0.0),
                        cls_token=dict(decay_mult=0.0),
                        log_step_size=dict(lr_mult=10.0, decay_mult=0.0),
                    ),
                ),
            ),
            param_scheduler=[
                dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=warm_up),
                dict(
                    type='CosineAnnealingLR',
                    by_epoch=False,
                    T_max=max(1, length.iterations - warm_up),
                    begin=warm_up,
                    end=max(warm_up + 1, length.iterations),
                    eta_min=0.0,
                ),
            ],
            train_cfg=dict(
                type='EpochBasedTrainLoop',
                max_epochs=length.rounds,
                val_interval=length.validation_interval,
            ),
            default_hooks=dict(
                timer=dict(type='IterTimerHook'),
                logger=dict(type='LoggerHook', interval=max(1, min(10, length.per_round))),
                param_scheduler=dict(type='ParamSchedulerHook'),
                checkpoint=dict(
                    type='CheckpointHook', interval=length.save_interval, max_keep_ckpts=2
                ),
                sampler_seed=dict(type='DistSamplerSeedHook'),
            ),
            custom_hooks=hooks,
            env_cfg=dict(
                cudnn_benchmark=False,
                mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
                dist_cfg=dict(backend='nccl'),
            ),
            visualizer=dict(
                type='UniversalVisualizer',
                vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')],
            ),
            log_level='INFO',
            load_from=None,
            resume=False,
            randomness=dict(seed=choices.seed, deterministic=False),
            work_dir=str(out),
        )
    )
