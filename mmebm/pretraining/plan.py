"""The plan: how long the run is, and the config that it is."""

import math
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.config import Config, ConfigDict

from ..datasets import passes_in_round
from ..evaluation.features import centre_crop
from ..utils.shipped_files import shipped
from .images import Images
from .network import GIVEN, Network
from .options import TRACKERS, PretrainOptions
from .trial import Speed

TRAIN_LIST, HELD_OUT_LIST = 'train.txt', 'held_out.txt'
ROUND_SECONDS = 15.0  # an interrupted run ends after so long; torchrun kills it after 30
ROUNDS = 20  # at least, so that short runs are validated and saved in between
MOST_SINGLE = 200  # iterations of a run whose rounds may be of one, so that their number is exact
SAVE_SECONDS = 300.0
VALIDATION_SHARE = 0.05  # of the time
WARM_UP = 0.05  # of the iterations
MASKED_SHARE = 0.75  # of the patches for inpainting, as MAE's
LARGE_IMAGE, LARGE_WIDTH = 128, 768  # pixels, channels, from which on its head is larger; ours


class Length(NamedTuple):
    """How long a run is; a round is what the runner calls an epoch."""

    rounds: int
    per_round: int  # iterations
    save_interval: int  # in rounds
    validation_interval: int  # in rounds

    @property
    def iterations(self) -> int:
        return self.rounds * self.per_round


def length_of(speed: Speed, iterations: int | None = None, seconds: float | None = None) -> Length:
    """Split a run into rounds, and place its validations and checkpoints.

    Up to 200 ``iterations`` are exact, more are rounded to whole rounds; ``seconds`` instead are of
    the whole run, start and validations included.
    """
    if iterations is None:
        training = (seconds - speed.start) * (1 - VALIDATION_SHARE)
        iterations = max(1, round(training / speed.iteration))
    total = iterations * speed.iteration
    rounds = min(iterations, max(ROUNDS, math.ceil(total / ROUND_SECONDS)))
    wanted = max(1, round(iterations / rounds))
    # exact if possible: rounds that add up to the iterations asked for
    exact = (n for n in range(wanted, wanted // 2, -1) if iterations % n == 0)
    per_round = next(exact, wanted if iterations > MOST_SINGLE else 1)
    rounds = max(1, round(iterations / per_round))
    each = total / rounds
    most = max(1, math.floor(total * VALIDATION_SHARE / max(speed.validation, 1e-9)))
    validations = min(most, ROUNDS, rounds)
    if seconds is not None:  # the time that validations do not take
        left = seconds - speed.start - validations * speed.validation
        rounds = max(1, round(left / (per_round * speed.iteration)))
    save_interval = max(1, min(rounds, round(SAVE_SECONDS / each)))
    return Length(rounds, per_round, save_interval, math.ceil(rounds / validations))


def corruption_of(kind: str, size: int, grey: bool = False) -> dict:
    """The config of a corruption, in cells and scales for a side of ``size`` pixels.

    For ``grey`` images, in which it would change nothing, colorization is not mixed in.
    """
    scale = 16 if size >= 160 else 8 if size >= 48 else 4
    single = {
        'masking': dict(type='GriddedMask', patch_size=max(4, size // 14), ratio=0.5),
        'super-resolution': dict(type='SuperResolution', scale=scale),
        'denoising': dict(type='GaussianNoise', gamma_range=(0.0, 1.0)),
        'colorization': dict(type='Colorization'),
    }
    mixed = dict(type='MixedCorruption', corruptions=list(single.values())[: 3 if grey else 4])
    return mixed if kind == 'mixed' else single[kind]


def inpainting_model(network: Network) -> dict:
    """The model ``energy-inpainting-hog``; ValueError if the network is no vision transformer."""
    size, (height, width) = network.patch_size, network.image_size
    if size is None or height == width == size or network.image_channels == 1:
        raise ValueError(
            f'energy inpainting cannot train {network.name} on images of {height} × {width}: it '
            'needs a vision transformer with several square patches that cover the image, a '
            'position embedding for each, a multiple of 4 channels, and coloured images'
        )
    side = min(height, width)
    name = 'small-p16' if side >= LARGE_IMAGE else 'micro-p4_32'
    model = Config.fromfile(shipped(f'configs/_base_/models/inpainting_vit-{name}.py')).model
    cells = 2 if size >= 8 and size % 2 == 0 else 1  # in a row; of at least 16 pixels each
    grid = height // size, width // size
    model.head.update(in_channels=network.channels, grid=grid, patch_size=size)
    model.head.extra_values = 9 * 3 * cells**2  # angles, colours
    if side >= LARGE_IMAGE and network.channels >= LARGE_WIDTH:
        model.head.update(embed_dims=512, num_heads=16)
    model.target_generator.update(patch_size=size, pool=size // cells)
    return dict(model, backbone=network.config)


def config_of(
    images: Images,
    network: Network,
    options: PretrainOptions,
    length: Length,
    processes: int = 1,
    seconds_before: float = 0.0,
) -> Config:
    """The config of the run, without a base, for ``tools/train.py`` as for this one.

    Nothing is left to choose in ``options``; ``seconds_before`` were spent on that.
    """
    config = Config.fromfile(shipped('configs/_base_/folder_pretraining.py'))
    (height, width), batch, out = network.image_size, options.batch_size, Path(options.out)
    augmentation, preparation = config.pop('train_augmentation'), config.pop('val_preparation')
    augmentation[1].scale = height if height == width else (height, width)
    if height != width:
        shape = width / height
        augmentation[1].aspect_ratio_range = (shape * 3 / 4, shape * 4 / 3)
    preparation[1:] = centre_crop(height, width)
    if network.image_channels == 1:
        grey = dict(type='RandomGrayscale', prob=1.0, keep_channels=True, channel_weights=(1, 2, 1))
        augmentation.append(grey)
        preparation.append(grey)
    pack = config.pop('pack')
    is_random = options.start is None and not network.name.startswith(GIVEN)
    steps = dict(num_steps=options.num_steps, compile_step=options.compile_step)
    if network.norm_eval:
        steps['norm_eval'] = True
    if options.energy == 'inpainting':
        model = inpainting_model(network)
        corruption = dict(type='GriddedMask', patch_size=network.patch_size, ratio=MASKED_SHARE)
        if is_random:  # then it is sin-cos, and stays so, as MAE's
            config.optim_wrapper.paramwise_cfg.custom_keys.pos_embed = dict(lr_mult=0.0)
    else:
        head = dict(config.model.head, in_channels=network.channels)
        model = dict(backbone=network.config, head=head)
        corruption = corruption_of(options.corruption, min(height, width), images.grey)
    config.model = ConfigDict({**config.model, **model, **steps})  # not update(), which merges
    if network.image_channels == 1:  # that of green, which keeps the noise of one channel
        grey = {key: config.model.data_preprocessor[key][1:2] for key in ('mean', 'std')}
        config.model.data_preprocessor.update(grey, to_rgb=False, channel=1)

    round_size = length.per_round * batch * processes
    config.train_dataloader.sampler.round_size = round_size
    config.train_dataloader.dataset.repeats = passes_in_round(round_size, len(images.train))
    config.val_dataloader.dataset.with_label = bool(images.classes)
    for loader, file, pipeline in (
        (config.train_dataloader, TRAIN_LIST, [*augmentation, corruption, pack]),
        (config.val_dataloader, HELD_OUT_LIST, [*preparation, dict(**corruption, seed=0), pack]),
    ):
        loader.update(batch_size=batch, num_workers=options.workers)
        loader.update(persistent_workers=options.workers > 0, pin_memory=torch.cuda.is_available())
        loader.dataset.pop('data_prefix')
        loader.dataset.update(data_root=str(images.root), ann_file=str(out / file))
        loader.dataset.pipeline = pipeline

    config.test_dataloader, config.test_evaluator = config.val_dataloader, config.val_evaluator
    if options.tracker:
        backend = dict(type=f'{TRACKERS[options.tracker]}VisBackend')
        config.visualizer.vis_backends.append(backend)
    config.optim_wrapper.dtype = options.precision
    config.optim_wrapper.optimizer.lr = options.learning_rate
    begin, (warm_up, decay) = round(WARM_UP * length.iterations), config.param_scheduler
    begin = begin if begin > 1 else 0  # MMEngine would never leave the first rate of a single one
    warm_up.end = decay.begin = begin
    decay.update(T_max=length.iterations - begin, end=length.iterations)
    config.param_scheduler = [warm_up, decay] if begin else [decay]
    config.train_cfg.update(max_epochs=length.rounds, val_interval=length.validation_interval)
    config.default_hooks.logger.interval = max(1, min(10, length.per_round))
    config.default_hooks.checkpoint.interval = length.save_interval
    config.custom_hooks[-1].update(seconds_before=round(seconds_before), hours=options.hours)
    hooks = [dict(type='PretrainedBackboneHook', checkpoint=options.start)] * bool(options.start)
    hooks += [dict(type='SinCosPositionEmbeddingHook')] * (network.sincos and is_random)
    hooks += [dict(type='NeighbourAccuracyHook')] * bool(images.classes)
    config.custom_hooks += hooks
    config.randomness.seed, config.work_dir = options.seed, str(out)
    return config


def write_lists(folder: Path, images: Images) -> None:
    """Write the lists of images that the config names."""
    kept = images.held_out
    if images.classes:
        kept = [f'{name} {label}' for name, label in zip(kept, images.labels, strict=True)]
    for file, names in ((TRAIN_LIST, images.train), (HELD_OUT_LIST, kept)):
        (folder / file).write_text(''.join(f'{name}\n' for name in names), encoding='utf-8')
