"""Run a backbone once: does it take images of a size, and what are its features?"""

import inspect
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import timm
import torch
from mmengine.registry import init_default_scope
from mmengine.utils import to_2tuple
from mmpretrain.models import backbones as mmpretrain_backbones
from mmpretrain.registry import MODELS
from torch import Tensor, nn

IMAGE_SIZE = 224  # in pixels, of classes that name none
_NAMED = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY


class Probe(NamedTuple):
    """A backbone with random weights, and what :func:`probe` found."""

    backbone: nn.Module  # in evaluation mode
    config: dict  # that builds it, with ``img_size`` where the class needs it
    image_size: tuple[int, int]  # height and width in pixels
    features: Tensor  # its last output
    shape: str  # of all outputs
    channels: int  # D of the features, the ``in_channels`` of an ``EnergyHead``
    parameters: int  # number of them


def probe(config: Mapping[str, Any], image_size: int | tuple[int, int] | None = None) -> Probe:
    """Build a backbone with random weights and run it on two random images, without gradients.

    Args:
        config: of the backbone.
        image_size: side in pixels, or height and width. Defaults to :func:`own_image_size`.

    Raises:
        ValueError: it cannot be built, does not take such images, or returns no tensor.
    """
    init_default_scope('mmpretrain')
    own = own_image_size(config)
    size = own if image_size is None else image_size
    height, width = (size, size) if isinstance(size, int) else size
    images = torch.randn(2, config.get('in_channels', config.get('in_chans', 3)), height, width)
    choices, errors = [dict(config)], []
    arguments, takes_any = constructor_arguments(MODELS.get(config['type']))
    is_timms_own = config['type'] == 'TIMMBackbone' and height == width == own
    if ('img_size' in arguments or takes_any) and not is_timms_own:
        pair = height != width or isinstance(_default(arguments), Sequence)
        choices.insert(0, {**config, 'img_size': (height, width) if pair else height})
    for choice in choices:
        try:
            backbone = MODELS.build(dict(choice))
            backbone.eval()  # not chained: MMPretrain's returns None
            with torch.no_grad():
                features = backbone(images)
            return _found(backbone, choice, (height, width), features)
        except Exception as error:  # other people's code: it fails in any way
            errors.append(error)
    # that img_size is unknown says nothing about the backbone
    error = next((e for e in errors if 'img_size' not in str(e)), errors[0])
    raise ValueError(f'{type(error).__name__}: {one_line(error)}') from error


def _found(backbone: nn.Module, config: dict, size: tuple[int, int], features: Any) -> Probe:
    last, shape = features, ''
    while isinstance(last, Sequence):
        shape += f'{len(last)}, last: ' if len(last) > 1 else ''
        last = last[-1]
    if not isinstance(last, Tensor):
        raise TypeError(f'it returns {type(last).__name__}, no tensor')
    shape += str(tuple(last.shape))
    count = sum(p.numel() for p in backbone.parameters())
    return Probe(backbone, config, size, last, shape, channels(backbone, last), count)


def own_image_size(config: Mapping[str, Any]) -> int:
    """The side in pixels of the images that a backbone is made for; 224 if it does not say."""
    size = config.get('img_size')
    if size is None and config['type'] == 'TIMMBackbone':
        size = getattr(timm.get_pretrained_cfg(config['model_name']), 'input_size', None)
    elif size is None:
        size = _default(constructor_arguments(MODELS.get(config['type']))[0])
    size = max(size) if isinstance(size, Sequence) else size
    return size if isinstance(size, int) else IMAGE_SIZE


def trained_image_size(config: Mapping[str, Any]) -> tuple[int, int] | None:
    """Height and width of the images that the pipeline of a run's config crops, if it does."""
    loader = config.get('val_dataloader') or config.get('train_dataloader') or {}
    steps = loader.get('dataset', {}).get('pipeline') or []
    crops = [s.get('crop_size') or s.get('scale') for s in steps if 'Crop' in str(s.get('type'))]
    return tuple(to_2tuple(crops[0])) if crops else None


def _default(arguments: Mapping[str, inspect.Parameter]) -> Any:
    return arguments['img_size'].default if 'img_size' in arguments else None


def registered_backbones() -> dict[str, type]:
    """Name → class of every backbone in MMPretrain's registry, in alphabetical order."""
    exported = tuple(c for c in vars(mmpretrain_backbones).values() if inspect.isclass(c))
    MODELS.import_from_location()
    return {
        name: cls
        for name, cls in sorted(MODELS.module_dict.items(), key=lambda item: item[0].lower())
        if inspect.isclass(cls) and issubclass(cls, exported) and 'mmpretrain.' in cls.__module__
    }


def constructor_arguments(cls: type) -> tuple[dict[str, inspect.Parameter], bool]:
    """A class's arguments, its parents' included where ``**kwargs`` passes them on.

    Also returns whether the class takes ``**kwargs``. A function counts as a constructor.
    """
    arguments, takes_any = {}, []
    for parent in getattr(cls, '__mro__', (cls,)):
        if inspect.isclass(parent) and '__init__' not in vars(parent):
            continue
        own = inspect.signature(parent).parameters.values()
        takes_any.append(any(p.kind == p.VAR_KEYWORD for p in own))
        arguments = {p.name: p for p in own if p.kind in _NAMED} | arguments
        if not takes_any[-1]:
            break
    return arguments, takes_any[0]


def smallest_config(cls: type) -> dict:
    """The config of the smallest architecture that a class declares; else of its defaults."""
    arguments, _ = constructor_arguments(cls)
    settings = getattr(cls, 'arch_settings', None)
    for name, declared in dict(arch=getattr(cls, 'arch_zoo', settings), depth=settings).items():
        if name in arguments and isinstance(declared, Mapping):
            return dict(type=cls.__name__, **{name: min(declared, key=lambda k: _sum(declared[k]))})
    return dict(type=cls.__name__)


def _sum(value: Any) -> float:
    value = list(value.values()) if isinstance(value, Mapping) else value
    if isinstance(value, list | tuple):
        return sum(map(_sum, value))
    return value if isinstance(value, int | float) else 0


def channels(backbone: nn.Module, features: Tensor) -> int:
    """D of features ``(B, D)``, ``(B, L, D)``, ``(B, D, L)``, ``(B, D, H, W)``, ``(B, H, W, D)``.

    Of the possible axes, the one whose size most norms and biases of the backbone share.
    """
    vectors = Counter(len(p) for p in backbone.parameters() if p.dim() == 1)
    axes = {2: (1,), 3: (2, 1), 4: (1, 3)}.get(features.dim(), (-1,))
    return max((features.shape[axis] for axis in axes), key=lambda size: vectors[size])


def one_line(error: Exception) -> str:
    """An error's message on one line, without memory addresses and folders."""
    text = re.sub(r'(?<![\w.])/\S*/', '', ' '.join(str(error).split()))
    return re.sub(r' at 0x[0-9a-f]+', '', text)
