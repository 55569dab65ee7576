"""Convert checkpoint files to and from MMPretrain and timm.

A file gets its name only once both networks gave the same outputs for the same images.
"""

import contextlib
import copy
import inspect
import os
import re
import tempfile
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from mmengine.config import Config
from mmpretrain.models import ImageClassifier
from mmpretrain.registry import MODELS
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..backbones.group_norm import GroupNormBackbone
from ..backbones.probe import own_image_size
from ..utils.checkpoint import load_checkpoint_safely
from ..utils.config_text import config_inside
from ..utils.state_dict import check_fit
from .timm_families import Options, arguments_of, config_of, family_of, rename, timms_head

# Two networks are the same if their outputs differ by no more than this, relative to the largest
# output if that is above 1. Compared in float64, so that rounding does not count.
TOLERANCE = 1e-5


class Conversion(NamedTuple):
    """Result of a conversion."""

    left_behind: list[str]  # names of the source's tensors that are not in the file
    num_tensors: int  # in the file
    num_classes: int  # of the linear classifier in the file; 0 if there is none
    difference: float  # largest absolute one between the outputs of both networks, in float64
    usage: list[str]  # lines that load the file


def to_mmpretrain_file(
    checkpoint: str | Path,
    out: str | Path,
    config: str | Path | Config | None = None,
    overwrite: bool = False,
) -> Conversion:
    """Write a checkpoint's backbone, and its linear classifier if any, for MMPretrain.

    The format is that of MMPretrain's ``tools/model_converters``. ``meta`` holds the config of
    these parts and of the normalisation, and nothing else of the run.

    Args:
        checkpoint: of a pretraining or finetuning run of any method, or of a bare backbone.
        out: file to write, ends in ``.pth``.
        config: of the run. None takes the one in the checkpoint, which is never executed.
        overwrite: replace ``out`` if it exists.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: the checkpoint cannot be read or belongs to another network than the config's.
    """
    with _proven(out, '.pth', overwrite) as file:
        config, network, tensors, left = _read_ours(checkpoint, config)
        return _write_mmpretrain(file, out, config, network, tensors, left)


def to_timm_file(
    checkpoint: str | Path,
    out: str | Path,
    model: str | None,
    model_kwargs: Options | None = None,
    config: str | Path | Config | None = None,
    overwrite: bool = False,
) -> Conversion:
    """Write a checkpoint's backbone, and its linear classifier if any, for ``timm.create_model``.

    The lines in ``usage`` load the file strictly. The batch norm of linear probing is folded into
    the classifier.

    Args:
        checkpoint: as for :func:`to_mmpretrain_file`; a ViT, ConvNeXt or Swin of MMPretrain, or any
            network of timm in a ``TIMMBackbone``, also with group norms.
        out: file to write, ends in ``.safetensors``.
        model: name in timm's registry, such as ``vit_small_patch16_224``; None for a
            ``TIMMBackbone``, which knows it.
        model_kwargs: arguments of ``timm.create_model`` that make it a network of this size.
        config, overwrite: as for :func:`to_mmpretrain_file`.

    Raises:
        As :func:`to_mmpretrain_file`. ValueError also: the backbone is not supported, ``model`` is
        another network, or the outputs differ.
    """
    with _proven(out, '.safetensors', overwrite) as file:
        config, source, tensors, left = _read_ours(checkpoint, config)
        backbone, kwargs = config.model.backbone, dict(model_kwargs or {})
        group_norm = backbone.type == 'GroupNormBackbone'
        backbone = backbone.backbone if group_norm else backbone
        if backbone.type == 'TIMMBackbone':
            if model or kwargs:
                raise ValueError(
                    f'{checkpoint} holds {backbone.model_name} of timm: omit the model'
                )
            names = MODELS.build(backbone).timm_model.state_dict()
            model, kwargs = timm_call(backbone, names)
            converted = {n.removeprefix('backbone.timm_model.'): t for n, t in tensors.items()}
        else:
            if isinstance(getattr(source.neck, 'bn', None), nn.BatchNorm1d):
                tensors |= _folded_batch_norm(source)
            converted, unnamed = rename(tensors, source.backbone, to_timm=True)
            left += unnamed
            num_classes = len(tensors.get('head.fc.weight', ()))
            kwargs = arguments_of(source.backbone) | kwargs | dict(num_classes=num_classes)
            if backbone.get('in_channels', 3) != 3:
                kwargs['in_chans'] = backbone.in_channels
        pixels = {key: config.data_preprocessor[key] for key in ('mean', 'std')}
        overlay = {key: tuple(round(x / 255, 6) for x in v) for key, v in pixels.items() if v}
        if 'img_size' in kwargs:
            overlay['input_size'] = _image_shape(backbone)
        if overlay:
            kwargs['pretrained_cfg_overlay'] = overlay
        target = _create(model, kwargs, group_norm)
        check_fit(target, converted, checkpoint, f'timm.create_model({model!r})')
        save_file(converted, file, metadata={'format': 'pt'})
        target.load_state_dict(load_file(file))
        difference = _difference(source, target, config)
    call = f'{model!r}, ' + ', '.join(f'{key}={value!r}' for key, value in kwargs.items())
    usage = [f'timm.create_model({call}, checkpoint_path={str(out)!r})']
    if group_norm:
        usage = [
            f'network = mmebm.GroupNormBackbone(timm.create_model({call}))',
            f'network.load_state_dict(safetensors.torch.load_file({str(out)!r}))',
        ]
    return Conversion(left, len(converted), kwargs['num_classes'], difference, usage)


def from_timm_file(
    checkpoint: str | Path,
    out: str | Path,
    model: str | None,
    model_kwargs: Options | None = None,
    overwrite: bool = False,
) -> Conversion:
    """Write a checkpoint of timm in MMPretrain's format, to start a run from.

    Args:
        checkpoint: a local file with any names that timm's own filter for the model accepts.
        out, overwrite: as for :func:`to_mmpretrain_file`.
        model: name in timm's registry: a plain ViT, ConvNeXt or Swin.
        model_kwargs: further arguments of ``timm.create_model``.

    Raises:
        As :func:`to_timm_file`.
    """
    with _proven(out, '.pth', overwrite) as file:
        places = ('state_dict_ema', 'model_ema', 'state_dict', 'model')  # in timm's order
        tensors = _tensors(load_checkpoint_safely(checkpoint), places)
        kwargs = dict(num_classes=0) | (model_kwargs or {})
        family = family_of(_create(model, kwargs))
        classifier = tensors.get(f'{timms_head(family)}.weight', tensors.get('head.weight', ()))
        source = _create(model, kwargs | dict(num_classes=len(classifier)))
        with contextlib.suppress(Exception):  # what does not fit is reported below
            tensors = inspect.getmodule(type(source)).checkpoint_filter_fn(tensors, source)
        buffers = ('.relative_position_index', '.attn_mask')  # of Swin, in timm's older files
        tensors = {name: t for name, t in tensors.items() if not name.endswith(buffers)}
        check_fit(source, tensors, checkpoint, f'timm.create_model({model!r})')
        source.load_state_dict(tensors)
        settings, own = config_of(source), source.pretrained_cfg
        parts = dict(type='ImageClassifier', backbone=settings)
        if len(classifier):
            num_classes, in_channels = classifier.shape
            parts['head'] = dict(
                type='LinearClsHead', num_classes=num_classes, in_channels=in_channels
            )
            if family == 'SwinTransformer' or not settings.get('gap_before_final_norm', True):
                parts['neck'] = dict(type='GlobalAveragePooling')
        pixels = {key: [round(255 * x, 4) for x in own[key]] for key in ('mean', 'std')}
        config = Config(dict(model=parts, data_preprocessor=dict(**pixels, to_rgb=True)))
        network = _build(config)
        converted, left = rename(tensors, network.backbone, to_timm=False)
        # timm's files hold no buffers: MMPretrain's network computes its own
        converted |= {n: t for n, t in network.state_dict().items() if not t.is_floating_point()}
        check_fit(network, converted, checkpoint, family)
        done = _write_mmpretrain(file, out, config, source, converted, left)
    text = ', '.join(f'{key}={value!r}' for key, value in settings.items())
    return done._replace(usage=[f'backbone=dict({text})', *done.usage])


def timm_call(backbone: Options, names: Collection[str]) -> tuple[str, Options]:
    """Name and arguments of ``timm.create_model`` for the network in a ``TIMMBackbone``.

    ``TIMMBackbone`` takes classifier and pooling away once the network is built. Some networks that
    are built without pooling have a last norm of tokens instead of one after pooling.

    Args:
        backbone: config of the ``TIMMBackbone``.
        names: of the tensors in its ``timm_model``.

    Raises:
        ValueError: timm builds no such network without pooling.
    """
    options = {k: v for k, v in backbone.items() if k not in _OURS}
    options |= dict(num_classes=0, global_pool='')
    if backbone.get('in_channels', 3) != 3:
        options['in_chans'] = backbone['in_channels']
    for norm in {}, dict(fc_norm=True), dict(use_fc_norm=True):
        with contextlib.suppress(AssertionError, TypeError), torch.device('meta'):
            network = timm.create_model(backbone['model_name'], **options, **norm)
            if network.state_dict().keys() == set(names):
                return backbone['model_name'], options | norm
    raise ValueError(f'timm.create_model builds no {backbone["model_name"]} without pooling')


_OURS = {'type', 'model_name', 'features_only', 'pretrained', 'checkpoint_path', 'in_channels'}


def _write_mmpretrain(
    file: Path, out: str | Path, config: Config, source: nn.Module, tensors: dict, left: list[str]
) -> Conversion:
    torch.save(dict(meta=dict(cfg=config.pretty_text), state_dict=tensors), file)
    saved = load_checkpoint_safely(file)
    loaded = _build(config_inside(saved, file))
    loaded.load_state_dict(saved['state_dict'])
    difference = _difference(source, loaded, config)
    usage = [f"init_cfg=dict(type='Pretrained', checkpoint={str(out)!r}, prefix='backbone')"]
    usage.append(f'PRETRAINED={out}')
    num_classes = len(tensors.get('head.fc.weight', ()))
    return Conversion(left, len(tensors), num_classes, difference, usage)


def _read_ours(
    checkpoint: str | Path, config: str | Path | Config | None
) -> tuple[Config, ImageClassifier, dict[str, Tensor], list[str]]:
    """A checkpoint's config, its network with weights, their tensors, and the other names."""
    saved = load_checkpoint_safely(checkpoint, mmap=True)
    if config is None:
        config = config_inside(saved, checkpoint)
    elif isinstance(config, str | Path):
        if not Path(config).is_file():
            raise FileNotFoundError(f'config {config} does not exist')
        config = Config.fromfile(config)
    config = _clean(config)
    network = _build(config)
    tensors = _tensors(saved, ('state_dict',))
    if not any(name.startswith('backbone.') for name in tensors):
        tensors = {f'backbone.{name}': tensor for name, tensor in tensors.items()}
    parts = tuple(f'{name}.' for name, _ in network.named_children())
    kept = {name: tensor for name, tensor in tensors.items() if name.startswith(parts)}
    check_fit(network, kept, checkpoint, f'{type(network.backbone).__name__} of the config')
    network.load_state_dict(kept)
    return config, network, kept, [name for name in tensors if name not in kept]


def _tensors(saved: Mapping[str, Any], places: tuple[str, ...]) -> dict[str, Tensor]:
    """Copies of the tensors in the first of the places, or at the top, without wrappers' names."""
    state = next((saved[p] for p in places if isinstance(saved.get(p), Mapping)), saved)
    return {
        re.sub(r'^(_orig_mod\.|module\.)+', '', str(name)): tensor.contiguous().clone()
        for name, tensor in state.items()
        if isinstance(tensor, Tensor)
    }


def _clean(config: Mapping[str, Any]) -> Config:
    """The parts of a run's config that describe the tensors: no paths, no schedule."""
    model = config.get('model') or {}
    if 'backbone' not in model:
        raise ValueError('the config has no model with a backbone')
    parts = dict(type='ImageClassifier', backbone=dict(model['backbone']))
    parts['backbone'].pop('init_cfg', None)
    head, neck = model.get('head') or {}, model.get('neck') or {}
    necks = (None, 'GlobalAveragePooling', 'ClsBatchNormNeck')
    if head.get('type') == 'LinearClsHead' and neck.get('type') in necks:
        parts.update(neck=model.get('neck'), head=head)
    pixels = model.get('data_preprocessor') or config.get('data_preprocessor') or {}
    to_rgb = bool(pixels.get('to_rgb') or pixels.get('bgr_to_rgb'))
    pixels = dict(mean=pixels.get('mean'), std=pixels.get('std'), to_rgb=to_rgb)
    return Config(dict(model=parts, data_preprocessor=pixels))


def _build(config: Mapping[str, Any]) -> ImageClassifier:
    """The backbone of a config and, where there is one, its linear classifier."""
    network = MODELS.build(dict(config['model']))
    if 'mask' in inspect.signature(network.backbone.forward).parameters:
        network.backbone.forward = partial(network.backbone.forward, mask=None)
    return network


def _create(model: str | None, kwargs: Options, group_norm: bool = False) -> nn.Module:
    if not model or ':' in model or not timm.is_model(model):
        raise ValueError(f'timm has no model {model!r}: --model must be in timm.list_models()')
    try:
        network = timm.create_model(model, **kwargs)
    except Exception as error:  # timm has no type of its own for wrong arguments
        raise ValueError(f'timm.create_model({model!r}, **{kwargs!r}) fails: {error}') from error
    return GroupNormBackbone(network) if group_norm else network


@torch.no_grad()
def _folded_batch_norm(network: ImageClassifier) -> dict[str, Tensor]:
    """A classifier after batch norm as one linear layer."""
    linear = copy.deepcopy(nn.Sequential(network.neck.bn, network.head.fc)).double().eval()
    unit = torch.eye(network.head.in_channels).double()
    bias = linear(0 * unit)[0]
    weight = (linear(unit) - bias).T.contiguous()
    return {'head.fc.weight': weight.float(), 'head.fc.bias': bias.float()}


@torch.no_grad()
def _difference(ours: nn.Module, theirs: nn.Module, config: Config) -> float:
    """Largest absolute difference between the outputs on two random images.

    Raises:
        ValueError: it is larger than ``TOLERANCE``, or not a number.
    """
    shape = _image_shape(config.model.backbone.get('backbone', config.model.backbone))
    images = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0)).double()
    one, other = _outputs(ours, images), _outputs(theirs, images)
    difference = (one - other).abs().max().item()
    if not difference <= TOLERANCE * max(1.0, one.abs().max().item()):
        raise ValueError(
            f'the outputs of both networks differ by {difference:.2g} on random images, '
            f'{TOLERANCE:g} is allowed: they have parts that compute differently under the same '
            'names. No file is written'
        )
    return difference


def _image_shape(backbone: Options) -> tuple[int, int, int]:
    """Channels, height and width of the images of a backbone with this config."""
    side = backbone.get('img_size') or own_image_size(backbone)
    return backbone.get('in_channels', 3), *((side, side) if isinstance(side, int) else side)


def _outputs(network: nn.Module, images: Tensor) -> Tensor:
    network.double()
    network.eval()  # not chained: MMPretrain's returns None
    outputs = network(images)
    while isinstance(outputs, tuple | list):
        outputs = outputs[-1]
    return outputs.mean((2, 3)) if outputs.dim() == 4 else outputs


@contextlib.contextmanager
def _proven(out: str | Path, suffix: str, overwrite: bool) -> Iterator[Path]:
    """A temporary file in the folder of ``out``, which replaces it if no error is raised."""
    out = Path(out).expanduser()
    if out.suffix != suffix:
        raise ValueError(f'the output must end in {suffix}, got {out}')
    if out.exists() and not (overwrite and out.is_file()):
        raise FileExistsError(f'{out} exists: name another file, or give --overwrite')
    with tempfile.TemporaryDirectory(dir=out.parent, prefix='.converting-') as folder:
        yield Path(folder, out.name)
        os.replace(Path(folder, out.name), out)
