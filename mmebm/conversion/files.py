"""Convert checkpoint files to and from MMPretrain and timm.

A file gets its name only once both networks gave the same outputs for the same images.
"""

import contextlib
import copy
import inspect
import json
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
from mmengine.utils import to_2tuple
from mmpretrain.models import ImageClassifier
from mmpretrain.registry import MODELS
from safetensors.torch import load_file, save
from torch import Tensor, nn

from ..backbones.probe import channels, own_image_size, trained_image_size
from ..backbones.timm_families import Options, arguments_of, for_transformers, rename
from ..utils.checkpoint import load_checkpoint_safely
from ..utils.config_text import config_inside
from ..utils.state_dict import check_fit, shortened

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

    Args:
        checkpoint: of a pretraining or finetuning run of any method, or of a bare backbone.
        out: file to write, ends in ``.pth``.
        config: of the run. None takes the one in the checkpoint, which is never executed.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: the checkpoint belongs to another network, or the outputs differ.
    """
    with _proven(out, '.pth', overwrite) as file:
        config, network, tensors, left = _read_ours(checkpoint, config)
        torch.save(dict(meta=dict(cfg=config.pretty_text), state_dict=tensors), file)
        saved = load_checkpoint_safely(file)
        loaded = _build(config_inside(saved, file))
        loaded.load_state_dict(saved['state_dict'])
        shape, pixels = _image_shape(config), dict(std=[255.0])
        difference = _difference(network, loaded, shape, pixels, pixels)
    init_cfg = f"dict(type='Pretrained', checkpoint={str(out)!r}, prefix='backbone')"
    lines = [
        'import mmebm, torch',
        'from mmpretrain.registry import MODELS',
        f'network = MODELS.build(dict({config.model.backbone.to_dict()!r}, init_cfg={init_cfg}))',
        'network.init_weights()',
        f'# in a config: init_cfg={init_cfg}',
        f'# for the configs of mmebm: PRETRAINED={out}',
    ]
    usage = _usage(lines, loaded.backbone, shape)
    num_classes = len(tensors.get('head.fc.weight', ()))
    return Conversion(left, len(tensors), num_classes, difference, usage)


def to_timm_file(
    checkpoint: str | Path,
    out: str | Path,
    model: str | None,
    model_kwargs: Options | None = None,
    config: str | Path | Config | None = None,
    overwrite: bool = False,
) -> Conversion:
    """Write a checkpoint's backbone, and its linear classifier if any, for ``timm.create_model``.

    The batch norm of linear probing is folded into the classifier.

    Args:
        checkpoint: with a ViT, ConvNeXt or Swin of MMPretrain, or a ``TIMMBackbone``.
        out: file to write, ends in ``.safetensors``.
        model: name in timm's registry, such as ``vit_small_patch16_224``; None for a
            ``TIMMBackbone``, which knows it.
        model_kwargs: arguments of ``timm.create_model`` that make it a network of this size.
        config: as for :func:`to_mmpretrain_file`, as the errors are.
    """
    with _proven(out, '.safetensors', overwrite) as file:
        config, source, tensors, left = _read_ours(checkpoint, config)
        backbone, kwargs = config.model.backbone, dict(model_kwargs or {})
        if backbone.type == 'TIMMBackbone':
            if model or kwargs:
                raise ValueError(f'{checkpoint} holds {backbone.model_name} of timm: give no model')
            model, kwargs = timm_call(backbone, MODELS.build(backbone).timm_model.state_dict())
            converted = {n.removeprefix('backbone.timm_model.'): t for n, t in tensors.items()}
        else:
            if isinstance(getattr(source.neck, 'bn', None), nn.BatchNorm1d):
                tensors |= _folded_batch_norm(source)
            converted, unnamed = rename(tensors, source.backbone, to_timm=True)
            left += unnamed
            kwargs = arguments_of(source.backbone) | kwargs
            kwargs['num_classes'] = len(tensors.get('head.fc.weight', ()))
            if backbone.get('in_channels', 3) != 3:
                kwargs['in_chans'] = backbone.in_channels
        pixels = config.get('data_preprocessor') or {}
        order = 1 if pixels.get('to_rgb', True) else -1  # timm's images are RGB
        given = {key: pixels[key][::order] for key in ('mean', 'std') if pixels.get(key)}
        overlay = {key: tuple(round(x / 255, 8) for x in values) for key, values in given.items()}
        if 'img_size' in kwargs or 'image_size' in config:
            overlay['input_size'] = _image_shape(config)
        if overlay:
            kwargs['pretrained_cfg_overlay'] = overlay
        target = _create(model, kwargs)
        if order < 0:
            name = next(n for n, m in target.named_modules() if isinstance(m, nn.Conv2d))
            converted[f'{name}.weight'] = converted[f'{name}.weight'].flip(1)
        check_fit(target, converted, checkpoint, f'timm.create_model({model!r})')
        converted = {name: tensor.contiguous() for name, tensor in converted.items()}
        file.write_bytes(save(converted, dict(format='pt')))  # save_file makes it private
        target.load_state_dict(load_file(file))
        shape, timms = _image_shape(config), _timms_pixels(target)
        difference = _difference(source, target, shape, pixels or timms, timms)
        overlay |= dict(file=str(out), num_classes=kwargs['num_classes'])
        kwargs |= dict(pretrained=True, pretrained_cfg_overlay=overlay)
        text = ', '.join([repr(model), *(f'{key}={value!r}' for key, value in kwargs.items())])
        lines = ['import timm, torch', f'network = timm.create_model({text})']
        usage = _usage(lines, target, shape)
    return Conversion(left, len(converted), kwargs['num_classes'], difference, usage)


def to_transformers_folder(
    checkpoint: str | Path,
    out: str | Path,
    config: str | Path | Config | None = None,
    overwrite: bool = False,
) -> Conversion:
    """Write a checkpoint's ViT, of timm or MMPretrain, for ``transformers.ViTModel``.

    The folder ``out`` holds weights, config and normalisation. Arguments and errors are those of
    :func:`to_mmpretrain_file`; ImportError where transformers, which is run, is not installed.
    """
    from transformers import ViTModel

    with _proven(out, '', overwrite) as folder:
        config, source, tensors, left = _read_ours(checkpoint, config)
        backbone, kind = source.backbone, {}
        if hasattr(backbone, 'timm_model'):
            named = {n.removeprefix('backbone.timm_model.'): t for n, t in tensors.items()}
        else:
            named, unnamed = rename(tensors, backbone, to_timm=True)
            left, kind = left + unnamed, arguments_of(backbone)
        named, unnamed = for_transformers(named)
        layers = len({name.split('.')[2] for name in named if name.startswith('encoder.layer.')})
        unlike = [name for name in unnamed if not name.startswith('head.')]
        if unlike or not layers or 'embeddings.cls_token' not in named:
            no = shortened(unlike) or 'network without class token'
            raise ValueError(f"{checkpoint}: transformers' ViT has no {no}")
        pixels = config.get('data_preprocessor') or {}
        pixels = pixels if pixels.get('mean') else dict(mean=[0.0], std=[255.0], to_rgb=True)
        theirs, patches = dict(pixels, to_rgb=True), 'embeddings.patch_embeddings.projection.weight'
        if not pixels['to_rgb']:
            named[patches] = named[patches].flip(1)
            theirs |= {key: pixels[key][::-1] for key in ('mean', 'std')}
        shape, (width, depth, side, _) = _image_shape(config), named[patches].shape
        heads = next(m.num_heads for m in backbone.modules() if hasattr(m, 'num_heads'))
        eps = next(m.eps for m in backbone.modules() if isinstance(m, nn.LayerNorm))
        inner = len(named['encoder.layer.0.intermediate.dense.bias'])
        biased = 'encoder.layer.0.attention.attention.query.bias' in named
        described = dict(architectures=['ViTModel'], model_type='vit', hidden_size=width)
        described |= dict(num_hidden_layers=layers, num_attention_heads=heads, qkv_bias=biased)
        described |= dict(intermediate_size=inner, layer_norm_eps=eps, num_channels=depth)
        described |= dict(image_size=shape[1:], patch_size=side)
        prepared = {f'image_{key}': [x / 255 for x in theirs[key]] for key in ('mean', 'std')}
        prepared |= dict(size=dict(height=shape[1], width=shape[2]))
        prepared |= dict(image_processor_type='ViTImageProcessor')
        folder.mkdir()
        for name, content in ('config', described), ('preprocessor_config', prepared):
            (folder / f'{name}.json').write_text(json.dumps(content, indent=2), encoding='utf-8')
        named = {name: tensor.contiguous() for name, tensor in named.items()}
        (folder / 'model.safetensors').write_bytes(save(named, dict(format='pt')))
        pool = dict(avg='[:, 1:].mean(1)', token='[:, 0]').get(kind.get('global_pool'), '')
        read = f'outputs.last_hidden_state{pool}'
        if kind.get('fc_norm'):
            read = 'network.layernorm(outputs.hidden_states[-1][:, 1:].mean(1))'
        network = ViTModel.from_pretrained(folder, add_pooling_layer=False)
        network.config.output_hidden_states = True
        network.register_forward_hook(lambda network, _, outputs: eval(read))  # what is printed
        difference = _difference(backbone, network, shape, pixels, theirs)
    usage = [
        'import torch, transformers',
        f'network = transformers.ViTModel.from_pretrained({str(out)!r}, add_pooling_layer=False)',
        f'outputs = network(torch.zeros{(1, *shape)}, output_hidden_states=True)',
        f'features = {read}{"" if pool else ".mean(1)"}  # (1, {width})',
    ]
    return Conversion(left + unnamed, len(named), 0, difference, usage)


def timm_call(backbone: Options, names: Collection[str]) -> tuple[str, Options]:
    """Name and arguments of ``timm.create_model`` for the network in a ``TIMMBackbone``.

    ``backbone`` is its config, ``names`` those of the tensors in its ``timm_model``. Some networks
    that are built without pooling have a last norm of tokens instead of one after it.
    """
    ours = 'type', 'model_name', 'features_only', 'pretrained', 'checkpoint_path', 'in_channels'
    options = {key: value for key, value in backbone.items() if key not in ours}
    options |= dict(num_classes=0, global_pool='')
    if backbone.get('in_channels', 3) != 3:  # else MMSegmentation's would pass it twice
        options['in_chans'] = backbone['in_channels']
    for norm in {}, dict(fc_norm=True), dict(use_fc_norm=True):
        with contextlib.suppress(AssertionError, TypeError), torch.device('meta'):
            network = timm.create_model(backbone['model_name'], **options, **norm)
            if network.state_dict().keys() == set(names):
                return backbone['model_name'], options | norm
    raise ValueError(f'timm.create_model builds no {backbone["model_name"]} without pooling')


def _read_ours(
    checkpoint: str | Path, config: str | Path | Config | None
) -> tuple[Config, ImageClassifier, dict[str, Tensor], list[str]]:
    """A checkpoint's config, its network with weights, their tensors, and the other names."""
    saved = load_checkpoint_safely(checkpoint, mmap=True)
    config = _clean(config_inside(saved, checkpoint) if config is None else config)
    network = _build(config)
    state = saved.get('state_dict', saved).items()
    tensors = {
        re.sub(r'^(_orig_mod\.|module\.)+', '', str(name)): tensor.contiguous().clone()
        for name, tensor in state
        if isinstance(tensor, Tensor)
    }
    if not any(name.startswith('backbone.') for name in tensors):
        tensors = {f'backbone.{name}': tensor for name, tensor in tensors.items()}
    parts = tuple(f'{name}.' for name, _ in network.named_children())
    kept = {name: tensor for name, tensor in tensors.items() if name.startswith(parts)}
    check_fit(network, kept, checkpoint, f'{type(network.backbone).__name__} of the config')
    network.load_state_dict(kept)
    return config, network, kept, [name for name in tensors if name not in kept]


def _clean(config: str | Path | Mapping[str, Any] | Config) -> Config:
    """The parts of a run's config that describe the tensors: no paths, no schedule."""
    if not isinstance(config, Mapping | Config):
        with open(config, encoding='utf-8'):  # a missing file is named
            config = Config.fromfile(config)
    model = config['model']
    parts = dict(type='ImageClassifier', backbone=dict(model['backbone']))
    parts['backbone'].pop('init_cfg', None)
    head, neck = model.get('head') or {}, model.get('neck') or {}
    necks = (None, 'GlobalAveragePooling', 'ClsBatchNormNeck')
    if head.get('type') == 'LinearClsHead' and neck.get('type') in necks:
        parts.update(neck=model.get('neck'), head=head)
    clean = dict(model=parts)
    if size := config.get('image_size') or trained_image_size(config):
        clean['image_size'] = tuple(size)
    if pixels := model.get('data_preprocessor') or config.get('data_preprocessor'):
        to_rgb = bool(pixels.get('to_rgb') or pixels.get('bgr_to_rgb'))
        pixels = dict(mean=pixels.get('mean'), std=pixels.get('std'), to_rgb=to_rgb)
        clean['data_preprocessor'] = pixels
    return Config(clean)


def _build(config: Mapping[str, Any]) -> ImageClassifier:
    """The backbone of a config and, where there is one, its linear classifier."""
    network = MODELS.build(dict(config['model']))
    if 'mask' in inspect.signature(network.backbone.forward).parameters:
        network.backbone.forward = partial(network.backbone.forward, mask=None)
    return network


@torch.no_grad()
def _usage(build: list[str], network: nn.Module, shape: tuple[int, int, int]) -> list[str]:
    """Lines of Python that build a network, and one that computes features ``(1, D)``."""
    network.float().eval()
    outputs, index = network(torch.zeros(1, *shape)), ''
    while isinstance(outputs, tuple | list):
        outputs, index = outputs[-1], f'{index}[-1]'
    size, axes = channels(network, outputs), {3: (2, 1), 4: (1, 3)}.get(outputs.dim(), (1,))
    axis = next((a for a in axes if outputs.shape[a] == size), 1)
    pooled = tuple(a for a in range(1, outputs.dim()) if a != axis)
    pooling = f'.mean({pooled})' if pooled else ''
    masked = ', mask=None' if 'mask' in inspect.signature(network.forward).parameters else ''
    images = f'torch.zeros{(1, *shape)}{masked}'
    features = f'features = network({images}){index}{pooling}  # (1, {size})'
    return [*build, 'network.eval()', features]


def _create(model: str | None, kwargs: Options) -> nn.Module:
    if not model or ':' in model or not timm.is_model(model):
        raise ValueError(f'timm has no model {model!r}: --model must be in timm.list_models()')
    try:
        return timm.create_model(model, **kwargs)
    except Exception as error:  # timm has no type of its own for wrong arguments
        raise ValueError(f'timm.create_model({model!r}, **{kwargs!r}) fails: {error}') from error


@torch.no_grad()
def _folded_batch_norm(network: ImageClassifier) -> dict[str, Tensor]:
    """A classifier after batch norm as one linear layer."""
    linear = copy.deepcopy(nn.Sequential(network.neck.bn, network.head.fc)).double().eval()
    unit = torch.eye(network.head.in_channels).double()
    bias = linear(0 * unit)[0]
    weight = (linear(unit) - bias).T.contiguous()
    return {'head.fc.weight': weight.float(), 'head.fc.bias': bias.float()}


@torch.no_grad()
def _difference(ours: nn.Module, theirs: nn.Module, shape: tuple[int, ...], *pixels: dict) -> float:
    """Largest absolute difference of the outputs for two random images of a shape ``(C, H, W)``.

    Each network normalises them as its ``pixels`` say. ValueError above ``TOLERANCE``, or for NaN.
    """
    images = torch.randint(256, (2, *shape), generator=torch.Generator().manual_seed(0))
    one, other = (_outputs(*pair, images) for pair in zip((ours, theirs), pixels, strict=True))
    difference = (one - other).abs().max().item()
    if not difference <= TOLERANCE * max(1.0, one.abs().max().item()):
        raise ValueError(
            f'the outputs of both networks differ by {difference:.2g} on random images, '
            f'{TOLERANCE:g} is allowed. No file is written'
        )
    return difference


def _timms_pixels(network: nn.Module) -> dict[str, Any]:
    own = {key: [255 * x for x in network.pretrained_cfg[key]] for key in ('mean', 'std')}
    return dict(own, to_rgb=True)


def _outputs(network: nn.Module, pixels: Mapping[str, Any], images: Tensor) -> Tensor:
    """Last output of a network, averaged over positions, for BGR images in 0..255."""
    images = (images.flip(1) if pixels.get('to_rgb') else images).double()
    mean, std = (
        torch.tensor(pixels.get(key) or [default])[: images.shape[1], None, None].double()
        for key, default in (('mean', 0.0), ('std', 1.0))
    )
    network.double()
    network.eval()  # not chained: MMPretrain's returns None
    outputs = network((images - mean) / std)
    while isinstance(outputs, tuple | list):
        outputs = outputs[-1]
    return outputs.mean((2, 3)) if outputs.dim() == 4 else outputs


def _image_shape(config: Config) -> tuple[int, int, int]:
    """Channels, height and width of the images of the backbone in this config."""
    backbone = config.model.backbone.to_dict()
    side = backbone.get('img_size') or config.get('image_size') or own_image_size(backbone)
    return backbone.get('in_channels', 3), *to_2tuple(side)


@contextlib.contextmanager
def _proven(out: str | Path, suffix: str, overwrite: bool) -> Iterator[Path]:
    """A temporary file in the folder of ``out``, which replaces it if no error is raised."""
    out = Path(out).expanduser()
    if out.suffix != suffix:
        raise ValueError(f'the output must end in {suffix or "no suffix: a folder"}, got {out}')
    if out.exists() and not (overwrite and out.is_file()):
        raise FileExistsError(f'{out} exists: name another file, or give --overwrite')
    with tempfile.TemporaryDirectory(dir=out.parent, prefix='.converting-') as folder:
        yield Path(folder, out.name)
        os.replace(Path(folder, out.name), out)
