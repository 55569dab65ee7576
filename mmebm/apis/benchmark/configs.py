"""The configs of a comparison: those of configs/small, with its length, learning rate and size."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.config import Config

from ...utils.shipped_files import shipped
from .network import (
    SMALL_SIZE,
    BenchmarkBackbone,
    adapt,
    find_backbone,
    name_of,
    reason_against,
    resize_vit,
)
from .options import BenchmarkOptions

SCRATCH = 'scratch'  # no pretraining: random weights
_environment_lock = threading.Lock()


def backbones() -> list[str]:
    """Names of the backbones that configs/small has, such as ``vit-micro-p4``."""
    return sorted({path.stem.split('_')[1] for path in shipped('configs/small').glob('scratch_*')})


def replacement(options: BenchmarkOptions) -> BenchmarkBackbone | None:
    """The backbone that replaces that of the configs; None where they are taken as they are.

    Raises:
        FileNotFoundError, ValueError: there is no such backbone, or it cannot be pretrained.
    """
    name, size = options.backbone, options.image_size
    if name in backbones():
        if size in (None, SMALL_SIZE):
            return None
        (path,) = shipped('configs/small').glob(f'{SCRATCH}_{name}_*.py')
        name = str(path)
    elif '/' not in name and not name.endswith('.py'):
        raise ValueError(
            f'backbone must be one of configs/small ({", ".join(backbones())}), timm/NAME, '
            f'mmpretrain/NAME or a config file, got {name}'
        )
    return find_backbone(name, size, options.width, options.depth)


def pretraining_configs(backbone: str = 'vit-micro-p4') -> dict[str, Path]:
    """Method → config, for every config in configs/small with this backbone."""
    files = sorted(shipped('configs/small').glob(f'*_{backbone}_*.py'))
    names = {path.stem.split('_')[0]: path for path in files}
    return {k: v for k, v in names.items() if k not in ('finetune', 'linear', SCRATCH)}


def methods_for(backbone: BenchmarkBackbone) -> tuple[dict[str, Path], dict[str, str]]:
    """The methods that can train a backbone, by config, and why the others cannot."""
    methods, against = {}, {}
    for name, path in (pretraining_configs('swin-micro-p2') | pretraining_configs()).items():
        reason = reason_against(name, backbone)
        if reason is None:
            methods[name_of(name, backbone)] = path
        else:
            against[name_of(name, backbone)] = reason
    return dict(sorted(methods.items())), against


def finetuning_config(method: str, backbone: str = 'vit-micro-p4') -> Path:
    """The config that finetunes the backbone of a method; BEiT has its own."""
    if method == 'beit':
        backbone = backbone.replace('vit', 'beit')
    (path,) = shipped('configs/small').glob(f'finetune_{backbone}_*.py')
    return path


def shorten(config: Config, epochs: int) -> None:
    """Set the length to ``epochs`` ≥ 2, warm-up included."""
    warm_up, decay = config.param_scheduler
    warm_up.end = decay.begin = min(warm_up.end, max(1, epochs // 5))
    decay.end = epochs
    decay.T_max = max(1, epochs - decay.begin)
    config.train_cfg.max_epochs = epochs


def resize(config: Config, width: int | None, depth: int | None) -> None:
    """Give a ViT ``width`` channels and ``depth`` layers, and adapt neck and head.

    Raises:
        ValueError: see :func:`resize_vit`.
    """
    backbone = config.model.backbone
    before = (backbone.get('arch') or {}).get('embed_dims')
    resize_vit(backbone, width, depth)
    for part in ('neck', 'head'):
        options = config.model.get(part) or {}
        for key in ('embed_dim', 'embed_dims', 'in_channels'):
            if options.get(key) == before:
                options[key] = backbone.arch.embed_dims


@contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables that configs read, within the context; one thread at a time."""
    with _environment_lock:
        before = dict(os.environ)
        os.environ.update(variables)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def stage_config(
    path: Path,
    options: BenchmarkOptions,
    seed: int,
    epochs: int,
    lr: float,
    layer_decay: float | None = None,
    backbone: BenchmarkBackbone | None = None,
    **variables: str,
) -> Config:
    """A config with this comparison's length, learning rate and backbone, without validation.

    Args:
        path: of configs/small.
        options: of the comparison.
        seed, epochs, lr: of the run.
        layer_decay: likewise; None for pretraining.
        backbone: in place of the config's own.
        **variables: that the config reads from the environment.
    """
    with environment(variables):
        config = Config.fromfile(path)
    shorten(config, epochs)
    if backbone is not None:
        adapt(config, backbone)
        config.custom_imports.imports.append(adapt.__module__)
    elif options.width is not None or options.depth is not None:
        resize(config, options.width, options.depth)
    if options.num_steps is not None and config.model.type.startswith('Energy'):
        config.model.num_steps = options.num_steps
    config.optim_wrapper.optimizer.lr = lr
    if layer_decay is not None and config.optim_wrapper.get('constructor'):
        config.optim_wrapper.paramwise_cfg.layer_decay_rate = layer_decay
    config.randomness.seed = seed
    config.default_hooks.checkpoint.update(max_keep_ckpts=2, save_best=None)
    config.visualizer.vis_backends = [dict(type='LocalVisBackend')]
    if options.workers is not None:
        config.train_dataloader.update(
            num_workers=options.workers, persistent_workers=options.workers > 0
        )
    # All is measured below, in the same way for every method; training sees no test image.
    config.val_dataloader = config.val_cfg = config.val_evaluator = None
    return config
