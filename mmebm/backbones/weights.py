"""Fill a backbone from a checkpoint, and refuse one that leaves it random."""

import contextlib
import re
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from ..utils.checkpoint import load_checkpoint_safely
from ..utils.state_dict import Fit, shortened
from .timm_families import rename, with_late_merging

# Below this share, of the backbone or of the file, they are two different networks. Above it,
# differences are legitimate: a norm before or after the average, MAE's and BEiT's mask token.
MIN_SHARE = 0.9
CONTAINERS = ('state_dict', 'model', 'teacher')  # where files of others have their weights
# may be left out: decoders and heads of pretraining, statistics where batch norms are group norms
_NO_BACKBONE = re.compile(
    r'(decoder|mask_token|head|fc|classifier|projector|predictor)'
    r'|.*\.(running_mean|running_var|num_batches_tracked)$'
)


def read_backbone_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint's backbone, named as inside the backbone.

    Args:
        path: a local file: of a pretraining or finetuning run (names begin with ``backbone.``,
            heads and necks are left out) or of a bare backbone; the weights may lie in a ``model``
            (MAE, DeiT, BEiT, ConvNeXt) or ``teacher`` (DINO).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is a URL, or the file would run code, is damaged, or holds no tensors.
    """
    if '://' in str(path):
        raise ValueError(f'checkpoint {path} is a URL: download it and give the file')
    checkpoint = load_checkpoint_safely(path, mmap=True)
    inside = (checkpoint[key] for key in CONTAINERS if isinstance(checkpoint.get(key), Mapping))
    state = next(inside, checkpoint).items()
    tensors = {str(n).removeprefix('module.'): t for n, t in state if isinstance(t, Tensor)}
    if not tensors:
        raise ValueError(f'{path} holds no tensors, but {shortened(list(checkpoint))}')
    prefix = 'backbone.'
    inside = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    return inside or tensors


def load_backbone(backbone: nn.Module, path: str | Path) -> Fit:
    """Fill a backbone from a checkpoint of any method.

    MMEngine's ``Pretrained`` loads what fits, so that a wrong file leaves a random network. Here at
    least 90 % of the backbone's tensors are in the file, at least 90 % of the file's have a place,
    and each has its shape. Positions are resized, and BEiT's shared bias goes to each layer: by the
    backbone while it loads, by timm's conversion of published files, or here, where MMPretrain's
    own way needs a function that SciPy no longer has. MMPretrain's ViT, ConvNeXt and Swin take
    files of timm. Prefixes before the names, heads and decoders make no difference.

    Args:
        backbone: any module; changed in place, and left partly filled where an error is raised.
        path: as for :func:`read_backbone_tensors`.

    Returns:
        What was filled, counting floating-point tensors only (a batch norm has a counter too); as
        text it is the line for the log.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read, or belongs to another network; names the tensors.
    """
    read = read_backbone_tensors(path)
    tensors, left_out = _named_as_in(backbone, read)
    own = {n: t for n, t in backbone.state_dict().items() if t.is_floating_point()}
    names = list(own)
    another = f'{path} belongs to another network than {type(backbone).__name__}'
    try:
        tensors = _with_resized_biases(backbone, tensors)
        missing, unexpected = backbone.load_state_dict(dict(tensors), strict=False)
    except (RuntimeError, AssertionError, KeyError, ValueError) as error:
        # torch's first line is a heading, then comes a line for each tensor of the wrong shape
        lines = [line.strip() for line in str(error).splitlines()]
        unfit = lines[1:] if len(lines) > 1 else lines
        raise ValueError(f'{another}: {Fit(len(names), unfit=unfit).differences}') from error
    missing = [n for n in names if n in set(missing)]
    unused = [n for n in unexpected if n in tensors and tensors[n].is_floating_point()]
    filled = Fit(len(names), missing, unused)
    if filled.share < MIN_SHARE:
        raise ValueError(
            f'{another}: {filled}. At least {100 * MIN_SHARE:.0f} % must be. Missing: '
            f'{", ".join(missing)}'
        )
    in_file = sum(t.is_floating_point() for t in tensors.values())
    if 1 - len(unused) / in_file < MIN_SHARE:
        raise ValueError(
            f'{another}: {len(unused)} of the {in_file} backbone tensors of the file have no place '
            f'in it, so what it would start from is not what was pretrained: {", ".join(unused)}'
        )
    pointers = {tensor.data_ptr() for tensor in read.values()}
    resized = [
        n
        for n, t in tensors.items()
        if n in own and (t.data_ptr() not in pointers or t.shape != own[n].shape)
    ]
    return filled._replace(unused=[*unused, *left_out], resized=resized)


def _named_as_in(
    backbone: nn.Module, tensors: dict[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors by the backbone's own names, and the names of heads and decoders."""
    own = backbone.state_dict()
    inside = 'timm_model.' if any(name.startswith('timm_model.') for name in own) else ''
    short, timms = {name.removeprefix(inside) for name in own}, set()
    with contextlib.suppress(ValueError):  # not one of the families that both libraries have
        timms = set(rename({f'backbone.{n}': t for n, t in own.items()}, backbone, True)[0])
    prefixes: Counter[str] = Counter()
    for name in tensors:
        parts = name.split('.')
        ends = [i for i in range(len(parts)) if '.'.join(parts[i:]) in short | timms]
        prefixes.update('.'.join([*parts[:i], '']) for i in ends)
    prefix = max(prefixes, key=lambda p: (prefixes[p], 'teacher' in p), default='')
    left_out = [name for name in tensors if not name.startswith(prefix)]
    found = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    if inside:
        found = _as_timm_has_it(backbone.timm_model, found)
    elif len(timms & found.keys()) > len(short & found.keys()):
        found, unnamed = rename(with_late_merging(found), backbone, to_timm=False)
        found = {name.removeprefix('backbone.'): tensor for name, tensor in found.items()}
        left_out += unnamed
    dropped = [n for n in found if n not in short and _NO_BACKBONE.match(n)]
    kept = {inside + n: t for n, t in found.items() if n not in set(dropped)}
    return kept, left_out + dropped


def _as_timm_has_it(model: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Published files converted by the function that timm has for its family, if it has one."""
    own = model.state_dict()
    fits = all(n in own and own[n].shape == t.shape for n, t in tensors.items())
    convert = getattr(sys.modules[type(model).__module__], 'checkpoint_filter_fn', None)
    if fits or convert is None:
        return tensors
    try:
        return dict(convert(tensors, model))
    except (AssertionError, AttributeError, KeyError, RuntimeError, ValueError):
        return tensors  # of another network: told by name later


def _with_resized_biases(backbone: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, with relative position biases for the windows of the backbone."""
    from timm.layers import resize_rel_pos_bias_table  # slow to import

    suffix = 'relative_position_bias_table'
    own = {n: t for n, t in backbone.state_dict().items() if n.endswith(suffix)}
    resized = dict(tensors)
    for name in [name for name in tensors if own and name.endswith(suffix)]:
        # BEiT's pretraining shares one table, which finetuning copies to each layer
        place = name if name in own else next(iter(own))
        if len(tensors[name]) != len(own[place]):
            window = backbone.get_submodule(place.rpartition('.')[0]).window_size
            resized[name] = resize_rel_pos_bias_table(tensors[name], window, own[place].shape)
            if name in own:  # of the other size; the backbone has its own
                resized.pop(name.removesuffix('bias_table') + 'index', None)
    return resized
