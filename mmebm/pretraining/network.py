"""Look at the backbone: build it with random weights, and run it once."""

import copy
from pathlib import Path
from typing import Any, NamedTuple

import timm
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.utils import to_2tuple
from mmpretrain.apis import ModelHub, list_models
from mmpretrain.registry import MODELS
from torch import nn

from ..backbones.position_embedding import find_position_embedding, first_transformer_layer
from ..backbones.probe import (
    constructor_arguments,
    own_image_size,
    probe,
    registered_backbones,
    smallest_config,
)
from ..conversion import timm_call
from ..utils import nearest_name
from .options import PretrainOptions

GIVEN = 'GivenBackbone'  # type of a module that the caller built


class Network(NamedTuple):
    """A backbone that can be pretrained."""

    name: str  # as it was asked for
    config: dict  # that builds it
    image_size: tuple[int, int]  # height and width of its images in pixels
    image_channels: int  # 1 of grey images, else 3
    channels: int  # D of its features, which the energy head takes
    features: str  # their shape, in words
    parameters: int  # number of them
    norm_eval: bool  # it starts with batch norms that were trained, and keeps their statistics
    sincos: bool  # whether it has an absolute position embedding to start as sin-cos
    patch_size: int | None  # of a ViT whose square patches cover the image; None of other networks

    def __str__(self) -> str:
        return (
            f'{self.name}: {self.parameters / 1e6:.1f} million parameters, features '
            f'{self.features} of images of {" × ".join(map(str, self.image_size))}'
            f'{", batch norms keep their statistics" * self.norm_eval}'
        )


def register_module(module: nn.Module) -> str:
    """Let configs of this process build copies of a module; the name for :func:`find_network`."""

    def copied(in_channels: int = 3) -> nn.Module:
        found = copy.deepcopy(module)
        found.init_weights = lambda: None  # it starts with its own
        return found

    MODELS.register_module(name=GIVEN, module=copied, force=True)
    return f'{GIVEN} ({type(module).__name__})'


def find_network(options: PretrainOptions) -> Network:
    """Build a backbone with random weights, and run it once.

    Raises:
        ValueError: there is no such backbone, or it does not take such images; says why.
    """
    name, config = options.backbone, config_of(options.backbone)
    arguments, _ = constructor_arguments(MODELS.get(config['type']))
    if 'out_type' in arguments and 'avg_featmap' in MODELS.get(config['type']).OUT_TYPES:
        is_raw = options.energy == 'inpainting'  # all patches; else their average, no class token
        config['out_type'] = 'raw' if is_raw else 'avg_featmap'
        if 'final_norm' in arguments:
            config['final_norm'] = is_raw  # the average has a norm of its own
    size = to_2tuple(options.image_size or own_image_size(config))
    config |= dict(in_channels=options.channels) if options.channels else {}
    try:
        found = probe(config, size)
    except ValueError as error:
        raise refused(name, size, error) from error
    config, patches = found.config, _patches(found.backbone, size)
    if config['type'] == 'TIMMBackbone':
        timm_call(config, found.backbone.timm_model.state_dict())  # refused now, not at the end
    buffers = dict(found.backbone.named_buffers())
    counts = [value for key, value in buffers.items() if key.endswith('num_batches_tracked')]
    norm_eval = bool(counts) and bool(options.start or any(counts))
    facts = (found.channels, found.shape, found.parameters, norm_eval)
    image_channels = found.config.get('in_channels', found.config.get('in_chans', 3))
    return Network(name, config, size, image_channels, *facts, *patches)


def refused(name: str, size: tuple[int, int], why: object) -> ValueError:
    """The error for a backbone that cannot be pretrained."""
    what = f'backbone {name} cannot be pretrained on images of'
    return ValueError(f'{what} {" × ".join(map(str, size))}: {why}')


def config_of(name: str) -> dict[str, Any]:
    """The config of a backbone; see :func:`find_network`."""
    init_default_scope('mmpretrain')
    library, _, model = name.partition('/')
    if library == 'timm' and model:
        if not timm.is_model(model):
            near = nearest_name(model, timm.list_models())
            raise ValueError(f'backbone {name}: timm has no {model}{near}')
        return dict(type='TIMMBackbone', model_name=model)
    if name.startswith(f'{GIVEN} '):
        return dict(type=GIVEN)
    if library == 'mmpretrain' and model:
        classes, index = registered_backbones(), list_models()
        if model in classes:
            return smallest_config(classes[model])
        if model not in index:
            near = nearest_name(model, [*classes, *index])
            raise ValueError(f'backbone {name}: MMPretrain has no {model}{near}')
        config = ModelHub.get(model).config
    elif name.endswith('.py') and Path(name).is_file():
        config = Config.fromfile(name)
    else:
        allowed = 'timm/NAME, mmpretrain/NAME or an existing config file'
        raise ValueError(f'backbone must be {allowed}, got {name!r}')
    backbone = config.get('model', {}).get('backbone')
    if not backbone:
        raise ValueError(f'backbone {name} has no model with a backbone')
    left_out = ('init_cfg', 'frozen_stages')
    return {key: value for key, value in backbone.items() if key not in left_out}


def _patches(backbone: nn.Module, image_size: tuple[int, int]) -> tuple[bool, int | None]:
    """Whether there is an embedding per patch that sin-cos fits, and the side of a patch."""
    sincos = False
    try:
        found = find_position_embedding(backbone)
        sincos = found.value.shape[-1] % 4 == 0
        first_transformer_layer(backbone)
    except ValueError:
        return sincos, None
    (height, width), (rows, columns) = found.patch_size, found.grid
    square = height == width and (rows * height, columns * width) == image_size
    return sincos, height if sincos and square else None
