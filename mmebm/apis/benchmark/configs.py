"""The configs of a comparison: those of configs/small, with its length, learning rate and size."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.config import Config

from ...utils.shipped_files import shipped
from .options import BenchmarkOptions

SCRATCH = 'scratch'  # no pretraining: random weights
SIZE = 32  # pixels of a side of the images
_environment_lock = threading.Lock()


def backbones() -> list[str]:
    """Names of the backbones that configs/small has, such as ``vit-micro-p4``."""
    return sorted({path.stem.split('_')[1] for path in shipped('configs/small').glob('scratch_*')})


def pretraining_configs(backbone: str = 'vit-micro-p4') -> dict[str, Path]:
    """Method → config, for every config in configs/small with this backbone."""
    files = sorted(shipped('configs/small').glob(f'*_{backbone}_*.py'))
    names = {path.stem.split('_')[0]: path for path in files}
    return {k: v for k, v in names.items() if k not in ('finetune', 'linear', SCRATCH)}


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
        ValueError: it is no ViT, or the width is not a multiple of the number of attention heads.
    """
    backbone = config.model.backbone
    arch = backbone.get('arch')
    if 'num_layers' not in (arch or {}):
        raise ValueError(f'width and depth can be set for a ViT only, got {backbone.type}')
    before = arch.embed_dims
    width, depth = width or before, depth or arch.num_layers
    if width % arch.num_heads:
        raise ValueError(f'width must be a multiple of the {arch.num_heads} heads, got {width}')
    arch.update(embed_dims=width, num_layers=depth, feedforward_channels=4 * width)
    for part in ('neck', 'head'):
        options = config.model.get(part) or {}
        for key in ('embed_dim', 'embed_dims', 'in_channels'):
            if options.get(key) == before:
                options[key] = width


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
    **variables: str,
) -> Config:
    """A config with this comparison's length, learning rate and backbone, without validation."""
    with environment(variables):
        config = Config.fromfile(path)
    shorten(config, epochs)
    if options.width is not None or options.depth is not None:
        resize(config, options.width, options.depth)
    if options.num_steps is not None and config.model.type.startswith('Energy'):
        config.model.num_steps = options.num_steps
    config.optim_wrapper.optimizer.lr = lr
    if layer_decay is not None:
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
