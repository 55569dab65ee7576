"""Look at the backbone: build it with random weights, and run it once."""

import copy
from pathlib import Path
from typing import Any, NamedTuple

import timm
from mmengine.config import Config
from mmengine.registry import init_default_scope
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

GIVEN = 'GivenBackbone'  # type of a module that the caller built


class Network(NamedTuple):
    """A backbone that can be pretrained."""

    name: str  # as it was asked for
    config: dict  # that builds it
    image_size: int  # side of its images in pixels
    channels: int  # D of its features, which the energy head takes
    features: str  # their shape, in words
    group_norm: int  # how many batch norms were replaced
    sincos: bool  # whether it has an absolute position embedding to start as sin-cos
    patch_size: int | None  # of a ViT whose square patches cover the image; None of other networks
    parameters: int  # number of them


_given: list[nn.Module] = []


def register_module(module: nn.Module) -> str:
    """Let configs of this process build copies of a module; the name for :func:`find_network`."""
    _given[:] = [module]
    MODELS.register_module(name=GIVEN, module=_copy, force=True)
    return f'{GIVEN} ({type(module).__name__})'


def _copy() -> nn.Module:
    module = copy.deepcopy(_given[0])
    module.init_weights = lambda: None  # it starts with its own
    return module


def find_network(
    name: str, image_size: int | None, keep_batch_norm: bool, energy: str = 'restoration'
) -> Network:
    """Build a backbone with random weights, and run it once.

    Args:
        name, image_size, keep_batch_norm, energy: see :class:`.PretrainOptions`.

    Raises:
        FileNotFoundError: the config file does not exist.
        ValueError: there is no such backbone, or it does not take such images; says why.
    """
    config = _with_output(config_of(name), 'raw' if energy == 'inpainting' else 'avg_featmap')
    size = image_size or own_image_size(config)
    try:
        found = probe(config, size)
    except ValueError as error:
        raise refused(name, size, error) from error
    config, replaced = found.config, 0 if keep_batch_norm else found.batch_norms
    if replaced:
        config = dict(type='GroupNormBackbone', backbone=config)
    elif config['type'] == 'TIMMBackbone':  # refused now, not when it is exported
        timm_call(config, found.backbone.timm_model.state_dict())
    sincos, patch_size = _patches(found.backbone, size)
    return Network(
        *(name, config, size, found.channels, found.shape, replaced),
        *(sincos, patch_size, found.parameters),
    )


def refused(name: str, size: int, why: object) -> ValueError:
    """The error for a backbone that cannot be pretrained."""
    return ValueError(f'backbone {name} cannot be pretrained on images of {size} × {size}: {why}')


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
    elif not name.endswith('.py'):
        raise ValueError(
            f'backbone must be timm/NAME, mmpretrain/NAME or a config file, got {name!r}'
        )
    elif not Path(name).is_file():
        raise FileNotFoundError(f'config {name} does not exist')
    else:
        config = Config.fromfile(name)
    backbone = config.get('model', {}).get('backbone')
    if not backbone:
        raise ValueError(f'backbone {name} has no model with a backbone')
    left_out = ('init_cfg', 'frozen_stages')
    return {key: value for key, value in backbone.items() if key not in left_out}


def _with_output(config: dict, kind: str) -> dict:
    """With the average of all patches as output, or all of them, and not the class token."""
    arguments, _ = constructor_arguments(MODELS.get(config['type']))
    if 'out_type' in arguments and kind in getattr(MODELS.get(config['type']), 'OUT_TYPES', ()):
        config = {**config, 'out_type': kind}
        if 'final_norm' in arguments:
            config['final_norm'] = kind == 'raw'  # the average has a norm of its own
    return config


def _patches(backbone: nn.Module, image_size: int) -> tuple[bool, int | None]:
    """Whether there is an embedding per patch that sin-cos fits, and the side of a patch."""
    try:
        found = find_position_embedding(backbone)
        if found.value.shape[-1] % 4:
            return False, None
    except ValueError:
        return False, None
    try:
        first_transformer_layer(backbone)
    except ValueError:
        return True, None
    (height, width), (rows, columns) = found.patch_size, found.grid
    square = height == width and rows * height == columns * width == image_size
    return True, height if square else None
