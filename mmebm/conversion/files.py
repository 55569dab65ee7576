"""Convert checkpoint files to and from MMPretrain and timm.

Every conversion is verified. The file is written next to its target and loaded as a user would load
it; it gets its name only if both networks return the same outputs for the same random images.
"""

import difflib
import inspect
import os
import re
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS
from safetensors.torch import save_file
from timm.models import load_checkpoint
from torch import Tensor, nn

from ..utils.checkpoint import load_checkpoint_safely
from ..utils.config_text import config_inside
from ..utils.state_dict import check_fit
from .timm_families import Family, Options, family_of, from_timm, to_timm

# Two networks are the same if their outputs on random images differ by no more than this, relative
# to the largest output if that is above 1. Compared in float64, so that rounding does not count.
TOLERANCE = 1e-5

_FREE_SIDE = 64  # side in pixels of the random images, if a network takes any size
_NECKS = (None, 'GlobalAveragePooling', 'ClsBatchNormNeck')


class Conversion(NamedTuple):
    """Result of a conversion.

    Attributes:
        left_behind: names of the source's tensors that are not in the file.
        num_tensors: number of tensors in the file.
        num_classes: of the linear classifier in the file; 0 if there is none.
        difference: largest absolute difference between the outputs of both networks on random
            images, in float64.
        usage: lines of Python, config or shell that load the file.
    """

    left_behind: list[str]
    num_tensors: int
    num_classes: int
    difference: float
    usage: list[str]


class Network(nn.Module):
    """A backbone of MMPretrain and, where there is one, its linear classifier.

    Args:
        model: config of any model with a ``backbone``. Its head is built only if it is a
            ``LinearClsHead`` on the backbone's output, with or without a neck that averages or
            applies batch norm.
    """

    def __init__(self, model: Mapping[str, Any]):
        super().__init__()
        backbone = {k: v for k, v in model['backbone'].items() if k != 'init_cfg'}
        self.backbone = MODELS.build(backbone)
        self.neck = self.head = None
        head, neck = model.get('head'), model.get('neck')
        if _type(head) == 'LinearClsHead' and _type(neck) in _NECKS:
            self.neck = None if neck is None else MODELS.build(neck)
            self.head = MODELS.build(head)

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` → class scores ``(B, K)``.

        Without a classifier, the backbone's last output, averaged over positions if
        ``(B, D, H, W)``.
        """
        masked = 'mask' in inspect.signature(self.backbone.forward).parameters
        features = self.backbone(images, mask=None) if masked else self.backbone(images)
        if self.head is not None:
            return self.head(features if self.neck is None else self.neck(features))
        features = features[-1] if isinstance(features, tuple | list) else features
        features = features[0] if isinstance(features, tuple | list) else features
        return features.mean((2, 3)) if features.dim() == 4 else features


def to_mmpretrain_file(
    checkpoint: str | Path,
    out: str | Path,
    config: str | Path | Config | None = None,
    overwrite: bool = False,
) -> Conversion:
    """Write a checkpoint's backbone, and its linear classifier if any, for MMPretrain.

    The format is that of MMPretrain's ``tools/model_converters``: ``dict(state_dict=...)``, names
    with the prefixes ``backbone.`` and ``head.``. ``meta`` holds the config of these parts and of
    the normalisation, and nothing else of the run.

    Args:
        checkpoint: of a pretraining or finetuning run of any method, or of a bare backbone.
        out: file to write, ends in ``.pth``.
        config: of the run. None takes the one in the checkpoint, which is never executed.
        overwrite: replace ``out`` if it exists.

    Raises:
        FileNotFoundError: the checkpoint, the config or the folder of ``out`` does not exist.
        FileExistsError, IsADirectoryError, PermissionError: ``out`` cannot be written.
        ValueError: the checkpoint cannot be read or belongs to another network than the config's;
            or the outputs differ, and nothing is written.
    """
    out = _checked_target(out, '.pth', overwrite)
    config, network, tensors, left = _read_ours(checkpoint, config)
    return _write_mmpretrain(tensors, config, left, out, network, network.backbone)


def to_timm_file(
    checkpoint: str | Path,
    out: str | Path,
    model: str | None,
    model_kwargs: Options | None = None,
    config: str | Path | Config | None = None,
    overwrite: bool = False,
) -> Conversion:
    """Write a checkpoint's backbone, and its linear classifier if any, for ``timm.create_model``.

    ``timm.create_model(model, checkpoint_path=out, ...)`` loads the file strictly; the arguments it
    needs are in ``usage``. A batch norm without parameters before the classifier (linear probing)
    is folded into it.

    Args:
        checkpoint: as for :func:`to_mmpretrain_file`; a ViT, ConvNeXt or Swin of MMPretrain, or any
            network of timm in a ``TIMMBackbone``, which gives its name.
        out: file to write, ends in ``.safetensors``.
        model: name in timm's registry, such as ``vit_small_patch16_224``. None raises an error that
            lists the names that fit, except for a ``TIMMBackbone``.
        model_kwargs: arguments of ``timm.create_model`` that make it this network; image size,
            pooling and number of classes are derived without them.
        config, overwrite: as for :func:`to_mmpretrain_file`.

    Raises:
        As :func:`to_mmpretrain_file`. ValueError also: the backbone is not supported, or ``model``
        is unknown or another network.
    """
    out = _checked_target(out, '.safetensors', overwrite)
    config, network, tensors, left = _read_ours(checkpoint, config)
    if type(network.backbone).__name__ == 'TIMMBackbone':
        source = network.backbone.timm_model
        name, kwargs = timm_call(config.model.backbone, source.state_dict())
        if model not in (None, name) or model_kwargs:
            raise ValueError(
                f'the checkpoint holds {name} of timm: leave out --model and --model-kwargs'
            )
        model = name
        converted = _without_prefix(tensors, 'backbone.timm_model.')
        unmapped = [name for name in tensors if not name.startswith('backbone.')]
    else:
        family = family_of(network.backbone)
        options = family.of_mmpretrain(network.backbone)
        kwargs = _arguments(family, options, model, model_kwargs or {})
        if isinstance(getattr(network.neck, 'bn', None), nn.BatchNorm1d):
            left += [f'{n} (folded into head.fc)' for n in tensors if n.startswith('neck.bn.')]
            tensors = _with_folded_batch_norm(tensors, network.neck.bn.eps)
        source = network
        converted, unmapped = to_timm(family, options, tensors)
        kwargs['num_classes'] = len(converted.get(f'{family.head}.weight', ()))
    overlay = _pretrained_cfg(config, model, kwargs)
    if overlay:
        kwargs['pretrained_cfg_overlay'] = overlay
    target = _create(model, kwargs)
    check_fit(target, converted, checkpoint, f'timm.create_model({model!r})')
    with _proven(out) as temporary:
        save_file(_compact(converted), temporary, metadata={'format': 'pt'})
        load_checkpoint(target, str(temporary))  # strict; what checkpoint_path does
        difference = _difference(source, target, network.backbone)
    call = ', '.join(f'{k}={v!r}' for k, v in dict(kwargs, checkpoint_path=str(out)).items())
    usage = [f'timm.create_model({model!r}, {call})']
    return Conversion(left + unmapped, len(converted), kwargs['num_classes'], difference, usage)


def from_timm_file(
    checkpoint: str | Path,
    out: str | Path,
    model: str | None,
    model_kwargs: Options | None = None,
    overwrite: bool = False,
) -> Conversion:
    """Write a checkpoint of timm in MMPretrain's format, to start a run from.

    Args:
        checkpoint: a local file, ``.safetensors`` or pickled, with any names that timm's own filter
            for the model accepts.
        out: file to write, ends in ``.pth``, in the format of :func:`to_mmpretrain_file`.
        model: name in timm's registry: a plain ViT, ConvNeXt or Swin.
        model_kwargs: further arguments of ``timm.create_model``.
        overwrite: replace ``out`` if it exists.

    Raises:
        As :func:`to_timm_file`.
    """
    out = _checked_target(out, '.pth', overwrite)
    if model is None:
        raise ValueError(
            'the name of the timm model is needed, such as --model vit_small_patch16_224'
        )
    tensors = _read_timm(checkpoint)
    kwargs = dict(model_kwargs or {})
    family = family_of(_create(model, dict(kwargs, num_classes=0)))
    num_classes = len(tensors.get(f'{family.head}.weight', tensors.get('head.weight', ())))
    kwargs.setdefault('num_classes', num_classes)
    source = _create(model, kwargs)
    tensors = _filtered(source, tensors, checkpoint)
    left = [name for name in tensors if name not in source.state_dict() and _is_buffer(name)]
    tensors = {name: tensor for name, tensor in tensors.items() if name not in left}
    check_fit(source, tensors, checkpoint, f'timm.create_model({model!r})')
    source.load_state_dict(tensors)
    try:
        options = family.of_timm(source)
    except AttributeError as error:
        raise ValueError(f'{model} has no counterpart in MMPretrain ({error})') from error
    converted, unmapped = from_timm(family, options, tensors)
    config = _mmpretrain_config(family.config(options), source)
    network = Network(config.model)
    # timm's files hold no buffers: MMPretrain's network computes its own
    own = {n: t for n, t in network.state_dict().items() if not t.is_floating_point()}
    check_fit(network, own | converted, checkpoint, config.model.backbone.type)
    backbone = network.backbone
    written = _write_mmpretrain(own | converted, config, left + unmapped, out, source, backbone)
    settings = ', '.join(f'{k}={v!r}' for k, v in _plain(config.model.backbone).items())
    return written._replace(usage=[f'backbone=dict({settings})', *written.usage])


def fitting_names(family: Family, options: Options) -> list[str]:
    """Plain names in timm's registry whose networks have these options, except the free ones."""
    names = [
        name
        for name in timm.list_models(module=family.timm_type.__module__.rpartition('.')[2])
        if re.fullmatch(family.timm_names, name)
    ]
    fitting = []
    for name in names:
        try:
            with torch.device('meta'):  # nothing is allocated
                other = timm.create_model(name, num_classes=0)
            if type(other) is family.timm_type and not _differing(family, options, other):
                fitting.append(name)
        except (RuntimeError, AttributeError):  # cannot be built on this device, or has other parts
            continue
    return fitting


def _write_mmpretrain(
    tensors: dict[str, Tensor],
    config: Config,
    left: list[str],
    out: Path,
    source: nn.Module,
    backbone: nn.Module,
) -> Conversion:
    with _proven(out) as temporary:
        text = Config(dict(config)).pretty_text
        torch.save(dict(meta=dict(cfg=text), state_dict=_compact(tensors)), temporary)
        saved = load_checkpoint_safely(temporary)
        loaded = Network(config_inside(saved, temporary).model)
        loaded.load_state_dict(saved['state_dict'])
        difference = _difference(source, loaded, backbone)
    init = dict(type='Pretrained', checkpoint=str(out), prefix='backbone')
    settings = ', '.join(f'{key}={value!r}' for key, value in init.items())
    num_classes = len(tensors.get('head.fc.weight', ()))
    usage = [f'init_cfg=dict({settings})', f'PRETRAINED={out}']
    return Conversion(left, len(tensors), num_classes, difference, usage)


def _read_ours(
    checkpoint: str | Path, config: str | Path | Config | None
) -> tuple[Config, Network, dict[str, Tensor], list[str]]:
    """A checkpoint's config, its network with weights, their tensors, and the other names."""
    file = load_checkpoint_safely(checkpoint, mmap=True)
    if config is None:
        try:
            config = config_inside(file, checkpoint)
        except ValueError as error:
            raise ValueError(f'{error} (--config)') from error
    elif isinstance(config, str | Path):
        if not Path(config).is_file():
            raise FileNotFoundError(f'config {config} does not exist')
        config = Config.fromfile(config)
    model = config.get('model') or {}
    if 'backbone' not in model:
        raise ValueError('the config has no model with a backbone')
    tensors = _tensors(file, checkpoint, ('state_dict',), ('module.',))
    if not any(name.startswith('backbone.') for name in tensors):
        tensors = {f'backbone.{name}': tensor for name, tensor in tensors.items()}
    network = Network(model)
    parts = tuple(f'{name}.' for name, _ in network.named_children())
    left = [name for name in tensors if not name.startswith(parts)]
    kept = {name: tensor for name, tensor in tensors.items() if name.startswith(parts)}
    check_fit(network, kept, checkpoint, f'{type(network.backbone).__name__} of the config')
    network.load_state_dict(kept)
    return _clean_config(config, network), network, kept, left


def _read_timm(checkpoint: str | Path) -> dict[str, Tensor]:
    file = load_checkpoint_safely(checkpoint, mmap=True)
    places = ('state_dict_ema', 'model_ema', 'state_dict', 'model')  # in timm's order
    return _tensors(file, checkpoint, places, ('_orig_mod.', 'module.', '_orig_mod.'))


def _tensors(
    file: Mapping[str, Any], path: str | Path, places: tuple[str, ...], prefixes: tuple[str, ...]
) -> dict[str, Tensor]:
    """The tensors in the first of the places, or at the top, without the prefixes of wrappers."""
    state = next((file[p] for p in places if isinstance(file.get(p), Mapping)), file)
    tensors = {}
    for name, value in state.items():
        for prefix in prefixes:
            name = str(name).removeprefix(prefix)
        if isinstance(value, Tensor):
            tensors[name] = value
    if not tensors:
        raise ValueError(f'{path} holds no tensors')
    return tensors


def _clean_config(config: Mapping[str, Any], network: Network) -> Config:
    """The parts of a run's config that describe the tensors: no paths, no schedule."""
    pixels = config['model'].get('data_preprocessor') or config.get('data_preprocessor') or {}
    model = config['model']
    parts = dict(backbone=model['backbone'])
    if network.head is not None:
        parts.update(neck=model.get('neck'), head=model['head'])
    parts['backbone'] = {k: v for k, v in model['backbone'].items() if k != 'init_cfg'}
    preprocessor = dict(
        mean=pixels.get('mean'),
        std=pixels.get('std'),
        to_rgb=bool(pixels.get('to_rgb') or pixels.get('bgr_to_rgb')),
    )
    return Config(
        dict(model=dict(type='ImageClassifier', **_plain(parts)), data_preprocessor=preprocessor)
    )


def _mmpretrain_config(backbone: Options, source: nn.Module) -> Config:
    """MMPretrain's config for a network of timm and its normalisation."""
    model = dict(type='ImageClassifier', backbone=backbone)
    if source.num_classes:
        if backbone['type'] == 'SwinTransformer' or not backbone.get('gap_before_final_norm', True):
            model['neck'] = dict(type='GlobalAveragePooling')
        model['head'] = dict(
            type='LinearClsHead', num_classes=source.num_classes, in_channels=source.num_features
        )
    pixels = {
        key: [round(255 * x, 4) for x in source.pretrained_cfg[key]] for key in ('mean', 'std')
    }
    return Config(dict(model=model, data_preprocessor=dict(**pixels, to_rgb=True)))


def _pretrained_cfg(config: Config, model: str, kwargs: Options) -> dict[str, Any]:
    """Settings of the images that differ from timm's own for the model."""
    pixels = config.data_preprocessor
    own = timm.get_pretrained_cfg(model)
    overlay = {}
    for key in ('mean', 'std'):
        if pixels[key] is not None:
            value = tuple(round(x / 255, 6) for x in pixels[key])
            if value != tuple(round(x, 6) for x in getattr(own, key)):
                overlay[key] = value
    size = kwargs.get('img_size')
    if size is not None:
        sides = (size, size) if isinstance(size, int) else tuple(size)
        overlay['input_size'] = (kwargs.get('in_chans', 3), *sides)
    return overlay


def timm_call(backbone: Options, names: Collection[str]) -> tuple[str, Options]:
    """Arguments of ``timm.create_model`` for the network in a ``TIMMBackbone``.

    ``TIMMBackbone`` takes classifier and pooling away once the network is built. Some networks that
    are built without pooling have a last norm of the tokens in place of one after pooling, under
    another name.

    Args:
        backbone: config of the ``TIMMBackbone``.
        names: of the tensors in its ``timm_model``.

    Returns:
        The name, and arguments without classifier and pooling.

    Raises:
        ValueError: timm builds no such network without pooling.
    """
    options = _plain(backbone)
    name = options.pop('model_name')
    if options.get('features_only'):
        raise ValueError('a TIMMBackbone with features_only=True has no counterpart in a file')
    if 'in_channels' in options:
        options['in_chans'] = options.pop('in_channels')
    for key in ('type', 'features_only', 'pretrained', 'checkpoint_path'):
        options.pop(key, None)
    options.update(num_classes=0, global_pool='')
    for norm in ({}, dict(fc_norm=True), dict(use_fc_norm=True)):
        try:
            with torch.device('meta'):  # nothing is allocated
                network = timm.create_model(name, **options, **norm)
        except (AssertionError, TypeError):  # no such option, or not without pooling
            continue
        if network.state_dict().keys() == set(names):
            return name, options | norm
    raise ValueError(
        f'{name} cannot be written for timm: timm.create_model builds no such network without '
        'pooling'
    )


def _arguments(
    family: Family, options: Options, model: str | None, model_kwargs: Options
) -> Options:
    """The arguments that give timm's model these options."""
    if model is None:
        names = fitting_names(family, options)
        raise ValueError(
            'the name of the timm model is needed: '
            + (
                f'--model with one of {", ".join(names)}'
                if names
                else f'no plain name fits this {family.types[0]}; choose any --model, and the '
                'error lists the --model-kwargs that it needs'
            )
        )
    own = _create(model, dict(model_kwargs, num_classes=0))
    if type(own) is not family.timm_type:
        raise ValueError(
            f'{model} is a {type(own).__name__} of timm, the checkpoint holds a {family.types[0]}'
        )
    free = {
        key: options[key]
        for key, value in _options_of_timm(family, own).items()
        if key in family.free and key not in model_kwargs and value != options[key]
    }
    differing = _differing(family, options, own, model_kwargs)
    if differing:
        text = ', '.join(f'{k} {a!r}, not {b!r}' for k, (a, b) in differing.items())
        hint = _hint(family, options, model_kwargs, differing)
        raise ValueError(f'{model} is another network than the checkpoint: it has {text}; {hint}')
    return model_kwargs | free


def _hint(
    family: Family, options: Options, given: Options, differing: dict[str, tuple[Any, Any]]
) -> str:
    if 'eps' in differing:
        return 'timm builds no such network by name'
    names = fitting_names(family, options)
    if names:
        return f'these names fit: {", ".join(names)}'
    wanted = given | {key: ours for key, (_, ours) in differing.items()}
    return f'no plain name fits; {_as_options(wanted)} makes this one fit'


def _as_options(kwargs: Options) -> str:
    values = {k: ','.join(map(str, v)) if isinstance(v, list) else v for k, v in kwargs.items()}
    return '--model-kwargs ' + ' '.join(f'{k}={v}' for k, v in values.items())


def _options_of_timm(family: Family, model: nn.Module) -> Options:
    try:
        return family.of_timm(model)
    except AttributeError as error:
        raise ValueError(
            f'{type(model).__name__} has parts that MMPretrain does not have ({error})'
        ) from error


def _differing(
    family: Family, options: Options, model: nn.Module, given: Options | None = None
) -> dict[str, tuple[Any, Any]]:
    """Options in which a network of timm differs, and that ``_arguments`` does not set itself."""
    return {
        key: (value, options[key])
        for key, value in family.of_timm(model).items()
        if value != options[key] and (key not in family.free or key in (given or {}))
    }


def _create(model: str, kwargs: Options) -> nn.Module:
    """``timm.create_model``, local names only."""
    if ':' in model or not timm.is_model(model):
        close = difflib.get_close_matches(model, timm.list_models(), n=5)
        raise ValueError(
            f'timm {timm.__version__} has no model {model!r}'
            + (f'; close names are {", ".join(close)}' if close else '')
        )
    try:
        return timm.create_model(model, **kwargs).eval()
    except (TypeError, ValueError, AssertionError, KeyError, RuntimeError) as error:
        raise ValueError(f'timm.create_model({model!r}, **{kwargs!r}) fails: {error}') from error


def _filtered(model: nn.Module, tensors: dict[str, Tensor], path: str | Path) -> dict[str, Tensor]:
    """Convert older and original names, as timm does when it loads pretrained weights.

    timm would also resize tensors of another image size, which is refused here.
    """
    filter_fn = inspect.getmodule(type(model)).checkpoint_filter_fn
    try:
        filtered = filter_fn(dict(tensors), model)
    except (RuntimeError, KeyError, AttributeError, ValueError, AssertionError):
        return tensors  # the caller reports what does not fit
    sized = ('pos_embed', 'relative_position_bias_table', 'patch_embed.proj.weight')
    resized = [n for n in tensors if n.endswith(sized) and n in filtered]
    resized = [n for n in resized if filtered[n].shape != tensors[n].shape]
    if resized:
        name = resized[0]
        raise ValueError(
            f'{path} belongs to another image, patch or window size: {name} is '
            f'{tuple(tensors[name].shape)} there, {tuple(filtered[name].shape)} in the model; give '
            'the size of the file, such as --model-kwargs img_size=384'
        )
    return filtered


def _without_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _is_buffer(name: str) -> bool:
    """Whether a tensor is a constant of Swin, as in older files of timm."""
    return name.endswith(('.relative_position_index', '.attn_mask'))


def _with_folded_batch_norm(tensors: dict[str, Tensor], eps: float) -> dict[str, Tensor]:
    """``W (s (x − μ) + β) + b`` as one linear layer, with s the batch norm's scale."""
    folded = dict(tensors)
    bn = {n: folded.pop(n).double() for n in tensors if n.startswith('neck.bn.')}
    mean, var = bn['neck.bn.running_mean'], bn['neck.bn.running_var']
    scale = bn.get('neck.bn.weight', 1.0) * (var + eps).rsqrt()
    shift = bn.get('neck.bn.bias', 0.0) - mean * scale
    weight, bias = folded['head.fc.weight'], folded['head.fc.bias']
    folded['head.fc.weight'] = (weight.double() * scale).to(weight)
    folded['head.fc.bias'] = (bias.double() + weight.double() @ shift).to(bias)
    return folded


@torch.no_grad()
def _difference(ours: nn.Module, theirs: nn.Module, backbone: nn.Module) -> float:
    """Largest absolute difference between the outputs on two random images.

    Raises:
        ValueError: it is larger than ``TOLERANCE``, or not a number.
    """
    ours, theirs = ours.eval().double(), theirs.eval().double()
    generator = torch.Generator().manual_seed(0)
    shape = _image_shape(backbone)
    images = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    one, other = ours(images), theirs(images)
    if one.shape != other.shape:
        raise ValueError(f'the outputs differ in shape: {one.shape}, {other.shape}')
    difference = (one - other).abs().max().item()
    if not difference <= TOLERANCE * max(1.0, one.abs().max().item()):
        raise ValueError(
            f'the outputs of both networks differ by {difference:.2g} on random images, '
            f'{TOLERANCE:g} is allowed: they have parts that compute differently under the same '
            'names. No file is written'
        )
    return difference


def _image_shape(backbone: nn.Module) -> tuple[int, int, int]:
    """``(C, H, W)`` of images that a backbone of MMPretrain takes."""
    first = next((m for m in backbone.modules() if isinstance(m, nn.Conv2d)), None)
    channels = 3 if first is None else first.in_channels
    if type(backbone).__name__ == 'TIMMBackbone':
        patches = getattr(backbone.timm_model, 'patch_embed', None)
        size = (
            getattr(patches, 'img_size', None)
            or backbone.timm_model.pretrained_cfg['input_size'][1:]
        )
    else:
        try:
            size = family_of(backbone).of_mmpretrain(backbone).get('img_size', _FREE_SIDE)
        except ValueError:
            size = getattr(backbone, 'img_size', 224)
    sides = (size, size) if isinstance(size, int) else tuple(size)
    return channels, *sides


def _checked_target(out: str | Path, suffix: str, overwrite: bool) -> Path:
    out = Path(out).expanduser()
    if out.suffix != suffix:
        raise ValueError(f'the output must end in {suffix}, got {out}')
    if not out.parent.is_dir():
        raise FileNotFoundError(f'the folder {out.parent} does not exist')
    if out.is_dir():
        raise IsADirectoryError(f'{out} is a folder')
    if out.exists() and not overwrite:
        raise FileExistsError(f'{out} exists: name another file, or give --overwrite')
    if not os.access(out.parent, os.W_OK):
        raise PermissionError(f'the folder {out.parent} is not writable')
    return out


@contextmanager
def _proven(out: Path) -> Iterator[Path]:
    """A temporary file in the folder of ``out``, which replaces it if no error is raised."""
    with tempfile.TemporaryDirectory(dir=out.parent, prefix='.converting-') as folder:
        temporary = Path(folder, out.name)
        yield temporary
        os.replace(temporary, out)


def _compact(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of the tensors that share no memory, with each other or with a file."""
    return {n: t.detach().clone(memory_format=torch.contiguous_format) for n, t in tensors.items()}


def _plain(value: Any) -> Any:
    """Convert config types to builtins."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) for item in value)
    return value


def _type(config: Mapping[str, Any] | None) -> str | None:
    return None if config is None else str(config.get('type')).split('.')[-1]
