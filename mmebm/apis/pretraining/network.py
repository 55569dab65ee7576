"""What a backbone needs to be pretrained, found by running it once."""

import copy
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import timm
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.apis import ModelHub, list_models
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ...backbones.group_norm import GroupNormBackbone
from ...backbones.position_embedding import find_position_embedding, first_transformer_layer
from ...evaluation.backbone_check import (
    algorithm,
    build,
    channels,
    constructor_arguments,
    energy_step,
    last_tensor,
    option_sets,
    registered_backbones,
    shape_of,
    words,
)
from ...utils.batch_norm import training_batch_norms

BATCH = 2
GIVEN = 'GivenBackbone'  # type of a module that the caller built
MMPRETRAIN_SIZE, SMALLEST_SIZE = 224, 8


@dataclass(frozen=True)
class Network:
    """A backbone that can be pretrained.

    Attributes:
        name: as it was asked for.
        config: that builds it.
        image_size: side of its images in pixels.
        in_channels: D of its features, which the energy head takes.
        features: their shape, in words.
        pooled: whether they are ``(B, D)``.
        group_norm: how many batch norms were replaced.
        sincos: whether it has an absolute position embedding to start as sin-cos.
        patch_size: side in pixels of the patches of a vision transformer, of which each has its own
            position embedding and which cover the image; None of other networks.
        parameters: number of them.
    """

    name: str
    config: dict
    image_size: int
    in_channels: int
    features: str
    pooled: bool
    group_norm: int
    sincos: bool
    patch_size: int | None
    parameters: int

    @property
    def is_given(self) -> bool:
        """Whether the caller built it."""
        return self.config.get('backbone', self.config)['type'] == GIVEN

    @property
    def is_timm(self) -> bool:
        """Whether it is one of timm's."""
        return self.config.get('backbone', self.config)['type'] == 'TIMMBackbone'


def give(module: nn.Module) -> str:
    """Let configs of this process build copies of a module; the name for :func:`find`."""
    _given[:] = [module]
    MODELS.register_module(name=GIVEN, module=given, force=True)
    return f'{GIVEN} ({type(module).__name__})'


def given() -> nn.Module:
    """A copy of the module that the caller built."""
    return copy.deepcopy(_given[0])


_given: list[nn.Module] = []


def find(name: str, image_size: int | None, keep_batch_norm: bool) -> Network:
    """Build a backbone with random weights, and try an energy, its gradient and a training step.

    Args:
        name: ``timm/NAME``, ``mmpretrain/NAME`` (a model of its index, or a class), or the path of
            a config with a ``model.backbone``.
        image_size: side in pixels; None takes the backbone's own.
        keep_batch_norm: leave batch norms in place.

    Raises:
        ValueError: there is no such backbone, or it cannot be pretrained; says why.
    """
    config, own = config_of(name)
    return try_out(name, config, image_size or own, own, keep_batch_norm)


def try_out(name: str, config: dict, size: int, own: int, keep_batch_norm: bool) -> Network:
    """As :func:`find`, of a config.

    Args:
        name: for messages.
        config: of the backbone, without a size.
        size: side of the images in pixels.
        own: that of the images that the backbone is made for.
        keep_batch_norm: leave batch norms in place.

    Raises:
        ValueError: it cannot be pretrained; says why.
    """
    init_default_scope('mmpretrain')
    try:
        config, backbone, features = _run(config, size, own)
    except Exception as error:  # other people's code: it fails in any way
        raise _refused(name, size, error) from error
    last = last_tensor(features)
    if not isinstance(last, Tensor):
        raise ValueError(f'backbone {name} cannot be pretrained: it returns {shape_of(features)}')
    replaced = 0
    if training_batch_norms(backbone) and not keep_batch_norm:
        replaced = len(training_batch_norms(backbone))
        config = dict(type='GroupNormBackbone', backbone=config)
        backbone = GroupNormBackbone(backbone)
    in_channels = channels(backbone, last)
    try:
        model = algorithm(backbone, dict(type='EnergyHead', in_channels=in_channels)).train()
        clean = torch.randn(BATCH, 3, size, size)
        energy_step(model, clean + 0.5 * torch.randn_like(clean), clean)
    except Exception as error:
        raise _refused(name, size, error) from error
    sincos = _takes_sincos(backbone)
    return Network(
        name=name,
        config=config,
        image_size=size,
        in_channels=in_channels,
        features=shape_of(features),
        pooled=last.dim() == 2,
        group_norm=replaced,
        sincos=sincos,
        patch_size=_patch_size(backbone, size) if sincos else None,
        parameters=sum(p.numel() for p in backbone.parameters()),
    )


def config_of(name: str) -> tuple[dict, int]:
    """The config of a backbone without a size, and the size that it is made for.

    Args:
        name: see :func:`find`.

    Raises:
        FileNotFoundError: the config file does not exist.
        ValueError: there is no such backbone; names the nearest.
    """
    init_default_scope('mmpretrain')
    library, _, model = name.partition('/')
    if library == 'timm' and model:
        if not timm.is_model(model):
            raise ValueError(f'backbone {name}: {_unknown(model, "timm", timm.list_models())}')
        size = timm.get_pretrained_cfg(model)
        size = size.input_size[-1] if size is not None else MMPRETRAIN_SIZE
        return dict(type='TIMMBackbone', model_name=model), size
    if library == 'mmpretrain' and model:
        return _of_mmpretrain(model)
    if name.startswith(f'{GIVEN} '):
        return dict(type=GIVEN), MMPRETRAIN_SIZE
    if name.endswith('.py'):
        if not Path(name).is_file():
            raise FileNotFoundError(f'config {name} does not exist')
        config = Config.fromfile(name).get('model', {}).get('backbone')
        if not config:
            raise ValueError(f'config {name} has no model with a backbone')
        return _pooling(dict(config)), _own_size(config)
    raise ValueError(f'backbone must be timm/NAME, mmpretrain/NAME or a config file, got {name!r}')


def _of_mmpretrain(model: str) -> tuple[dict, int]:
    classes = registered_backbones()
    if model in classes:
        config = next(option_sets(classes[model]))
        return _pooling(config), MMPRETRAIN_SIZE
    index = list_models()
    if model in index:
        config = ModelHub.get(model).config.model.get('backbone')
        if not config:
            raise ValueError(f'backbone mmpretrain/{model}: that model has no backbone')
        config = {k: v for k, v in config.items() if k not in ('init_cfg', 'frozen_stages')}
        return _pooling(config), _own_size(config)
    raise ValueError(
        f'backbone mmpretrain/{model}: {_unknown(model, "MMPretrain", [*classes, *index])}'
    )


def _unknown(model: str, library: str, known: list[str]) -> str:
    near = get_close_matches(model.lower(), {name.lower(): name for name in known}, n=3)
    names = {name.lower(): name for name in known}
    hint = f'; the nearest are {", ".join(names[n] for n in near)}' if near else ''
    return f'{library} has no {model}{hint}'


def _pooling(config: dict) -> dict:
    """With the average of all patches as output, where a class would give its class token."""
    arguments, _ = constructor_arguments(MODELS.get(config['type']))
    kinds = getattr(MODELS.get(config['type']), 'OUT_TYPES', ())
    if 'out_type' in arguments and 'avg_featmap' in kinds:
        config = {**config, 'out_type': 'avg_featmap'}
        if 'final_norm' in arguments:
            config['final_norm'] = False  # the average has a norm of its own
    return config


def unpooled(config: dict) -> dict:
    """With the tokens of all patches as output, where it is their average."""
    if 'backbone' in config:
        return {**config, 'backbone': unpooled(config['backbone'])}
    if config.get('out_type') == 'avg_featmap':
        config = {**config, 'out_type': 'raw'}
        if 'final_norm' in config:
            config['final_norm'] = True
    return config


def _own_size(config: dict) -> int:
    size = config.get('img_size', MMPRETRAIN_SIZE)
    return max(size) if isinstance(size, tuple | list) else size


def _run(config: dict, size: int, own: int) -> tuple[dict, nn.Module, Tensor]:
    """The config with an image size where it needs one, the backbone, and features of images."""
    if config['type'] == 'TIMMBackbone':
        takes_size = size != own
    elif config['type'] == GIVEN:
        takes_size = False
    else:
        arguments, takes_any = constructor_arguments(MODELS.get(config['type']))
        takes_size = 'img_size' in arguments or takes_any
    error = None
    for tried in ([{**config, 'img_size': size}] if takes_size else []) + [config]:
        try:
            backbone = build(tried)
            backbone.eval()
            with torch.no_grad():
                return tried, backbone, backbone(torch.randn(BATCH, 3, size, size))
        except Exception as e:
            # what an argument too many raises says nothing about the backbone
            if error is None or 'img_size' not in str(e):
                error = e
    raise error


def _refused(name: str, size: int, error: Exception) -> ValueError:
    return ValueError(
        f'backbone {name} cannot be pretrained on images of {size} × {size} pixels: '
        f'{type(error).__name__}: {words(error)}'
    )


def _takes_sincos(backbone: nn.Module) -> bool:
    """Whether there is one embedding per patch, of as many channels as sin-cos needs."""
    try:
        found = find_position_embedding(backbone)
    except ValueError:
        return False
    return found.value.shape[-1] % 4 == 0


def _patch_size(backbone: nn.Module, image_size: int) -> int | None:
    try:
        first_transformer_layer(backbone)
    except ValueError:
        return None
    found = find_position_embedding(backbone)
    (height, width), (rows, columns) = found.patch_size, found.grid
    return height if height == width and rows * height == columns * width == image_size else None
