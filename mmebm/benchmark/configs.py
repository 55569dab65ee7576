"""The configs of a comparison: all get the same images, length, schedule and start."""

import copy
import functools
from pathlib import Path

import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS
from torch import nn

from ..utils.shipped_files import shipped
from .options import BenchmarkOptions

SMALL = 'configs/small'  # METHOD_BACKBONE_*.py, for images of 32²
SCRATCH = 'scratch'  # no pretraining: the start that all methods have
# The other names there are methods. BEiT's network differs: --backbone beit-micro-p4.
NO_METHODS = 'finetune', 'linear', SCRATCH, 'beit'


def find_configs(options: BenchmarkOptions) -> tuple[dict[str, Path | None], Path]:
    """The pretraining config of each method (scratch has none), and the finetuning config."""
    files = {tuple(path.stem.split('_')[:2]): path for path in shipped(SMALL).glob('*.py')}
    backbone, own = options.backbone, options.backbone.endswith('.py')
    if not own and ('finetune', backbone) not in files:
        names = ', '.join(sorted(name for method, name in files if method == 'finetune'))
        raise ValueError(f'backbone must be one of {names} or a config file, got {backbone}')
    known = {m: files[m, b] for m, b in sorted(files) if b == backbone and m not in NO_METHODS}
    known = {SCRATCH: None} | known
    found = {}
    for name in options.methods or known:
        if not name.endswith('.py') and name not in known:
            raise ValueError(f'{backbone} has no method {name}, but {", ".join(known)}')
        found[Path(name).stem] = Path(name) if name.endswith('.py') else known[name]
    return found, Path(backbone) if own else files['finetune', backbone]


read_config = functools.cache(Config.fromfile)  # slow


def stage_config(
    path: Path,
    options: BenchmarkOptions,
    epochs: int,
    images: Path,
    classes: int = 0,
    seed: int = 0,
    lr: float = 0.0,
    layer_decay: float = 1.0,
    start: Path | None = None,
) -> Config:
    """A config with this comparison's images, length, rate, seed and start, without validation.

    ``images`` lists the training images, ``start`` is the checkpoint of the backbone;
    ``classes`` and ``layer_decay`` are of finetuning.
    """
    config = copy.deepcopy(read_config(path))
    model, loader, hooks = config.model, config.train_dataloader, config.default_hooks
    if 'data_preprocessor' in config:  # as MMPretrain's configs have it
        model.setdefault('data_preprocessor', config.data_preprocessor)
    data = dict(type='ImageFolder', data_root=str(Path(options.data_root).resolve()))
    data.update(data_prefix='train', with_label=classes > 0, ann_file=str(images))
    loader.dataset = dict(data, pipeline=loader.dataset.pipeline)
    count = len(images.read_text('utf-8').splitlines())
    loader.batch_size = min(loader.batch_size, count)
    # workers end with each epoch, so that their CPU time is counted
    loader.update(num_workers=options.workers, persistent_workers=False, drop_last=True)
    if classes:
        data.update(data_prefix='test', ann_file='', test_mode=True)
        test = config.test_dataloader
        test.dataset = dict(data, pipeline=test.dataset.pipeline)
        model.head.num_classes = model.data_preprocessor.num_classes = classes
        if config.optim_wrapper.get('constructor'):
            config.optim_wrapper.paramwise_cfg.layer_decay_rate = layer_decay
        if hooks.get('position_embedding'):
            # after the start: the sorting auto-encoder has no positions and would bring zeros
            hooks.position_embedding.priority = 'LOWEST'
    set_length(config, epochs, count // loader.batch_size)
    config.optim_wrapper.optimizer.lr = lr
    config.randomness = dict(seed=seed)
    hooks.checkpoint = dict(type='CheckpointHook', interval=1, max_keep_ckpts=2)
    hooks.pretrained_backbone = dict(type='PretrainedBackboneHook', checkpoint=str(start))
    config.custom_hooks = [*(config.get('custom_hooks') or []), dict(type='SecondsHook')]
    config.custom_imports = dict(imports=['mmebm', 'mmebm.benchmark.training'])
    config.visualizer = dict(
        type='UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')]
    )
    # all is measured later, in one way; training sees no test image
    config.val_dataloader = config.val_cfg = config.val_evaluator = None
    return config


def set_length(config: Config, epochs: int, iterations: int) -> None:
    """Train for ``epochs`` of ``iterations``: warm-up as the config, a fifth at most; cosine."""
    old = config.get('param_scheduler') or []
    old = {s.type: s for s in (old if isinstance(old, list) else [old])}
    warm_up = min(old.get('LinearLR', {}).get('end', 0), max(1, epochs // 5)) * iterations
    warm_up = warm_up if epochs > 1 else warm_up // 5
    total, eta_min = epochs * iterations, old.get('CosineAnnealingLR', {}).get('eta_min', 0)
    decay = dict(begin=warm_up, end=total, T_max=total - warm_up, eta_min=eta_min)
    config.param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=False, **decay)]
    if warm_up > 1:  # over one iteration, LinearLR would stay at its start
        ramp = dict(type='LinearLR', by_epoch=False, start_factor=1e-2, begin=0, end=warm_up)
        config.param_scheduler.insert(0, ramp)
    config.train_cfg = dict(by_epoch=True, max_epochs=epochs)


def write_start(config: Config, seed: int, file: Path) -> None:
    """Write the weights that every encoder begins with: MAE's start, for any backbone.

    Linear layers and a ViT's patch embedding are Xavier uniform with biases of 0; all else is as
    the backbone initialises itself. The position embedding is left to the methods.
    """
    torch.manual_seed(seed)
    backbone = MODELS.build(config.model.backbone)
    backbone.init_weights()
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Linear) or name == 'patch_embed.projection':
            nn.init.xavier_uniform_(module.weight.data.flatten(1))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    state = {f'backbone.{k}': v for k, v in backbone.state_dict().items() if k != 'pos_embed'}
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(state_dict=state), file)
