"""Find config keys that no code reads, before anything is built.

MMEngine passes most of a config to the classes that it names. They refuse unknown options only when
they are built, which can be minutes later in a large run. Other keys it reads one by one, and
silently ignores misspelt ones. Here the config is compared with the signatures of those classes.

Undecidable cases are skipped: classes that read ``**kwargs`` themselves, parts that are configured
through a ``*_cfg``, and types that are imported by their path instead of registered. A name at the
top of a config file may be a variable for other files, so it is refused only if it is close to a
name that the runner reads.
"""

import ast
import inspect
import math
import re
import textwrap
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from mmengine import registry as roots
from mmengine.config import Config
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import Registry
from mmengine.runner import Runner
from mmengine.runner.utils import set_random_seed
from mmengine.utils.dl_utils import set_multi_processing
from torch import nn
from torch.utils.data import DataLoader

from ..utils import nearest_name

# What MMEngine reads from a config though the runner has no parameter of that name.
_ALSO_READ = (
    'activation_checkpointing',
    'compile',
    'custom_imports',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'runner_type',
    'sync_bn',
)
# What MMEngine's build_dataloader takes out before the rest goes to torch's DataLoader.
_OF_LOADERS = ('num_batch_per_epoch', 'disable_subprocess_warning')
_OF_ENV = ('cudnn_benchmark', 'dist_cfg', 'mp_cfg', 'resource_limit')
_OF_OPTIM_WRAPPERS = ('optimizer', 'constructor', 'paramwise_cfg')
_OF_ALL = ('type', '_scope_')
# Arguments that MMEngine adds itself.
_NOT_OPTIONS = {
    roots.DATA_SAMPLERS: ('dataset', 'sampler'),
    roots.LOOPS: ('runner', 'dataloader', 'evaluator'),
    roots.MODEL_WRAPPERS: ('module',),
    roots.OPTIMIZERS: ('params',),
    roots.OPTIM_WRAPPERS: ('optimizer',),
    roots.PARAM_SCHEDULERS: ('optimizer', 'epoch_length'),
}

# Registry → the keys under which its classes hold parts of another or the same registry.
_PARTS = {
    roots.DATASETS: {
        'dataset': roots.DATASETS,
        'datasets': roots.DATASETS,
        'pipeline': roots.TRANSFORMS,
    },
    roots.TRANSFORMS: {'transforms': roots.TRANSFORMS, 'corruptions': roots.TRANSFORMS},
    roots.VISUALIZERS: {'vis_backends': roots.VISBACKENDS},
    roots.EVALUATOR: {'metrics': roots.METRICS},
    roots.MODELS: dict.fromkeys(
        (
            'data_preprocessor',
            'backbone',
            'neck',
            'head',
            'decode_head',
            'auxiliary_head',
            'target_generator',
        ),
        roots.MODELS,
    ),
}
_FOREIGN = ('Albu', 'Albumentations')  # their parts come from a library, not from a registry


def check_config(cfg: Config) -> None:
    """Refuse a config with keys that no code reads, unknown types, or missing parts.

    Raises:
        ValueError: names each such key, what is allowed in its place, and the nearest valid name.
    """
    problems = list(problems_of(cfg))
    if problems:
        more = f'; and {len(problems) - 3} more' if len(problems) > 3 else ''
        raise ValueError('; '.join(problems[:3]) + more)


def check_options(names: Collection[str], options: Mapping[str, Any], cfg: Config) -> None:
    """Refuse ``--cfg-options`` that change nothing.

    Args:
        names: of the entries at the top of the config files.
        options: to be merged into the config: dotted key → value.
        cfg: the config before merging.

    Raises:
        ValueError: a key begins with a name that is in no config and that the runner does not
            read; or it names a variable whose value was copied when the file was read.
    """
    known = runner_keys()
    for option in options:
        name = option.split('.')[0]
        if name not in names and name not in known:
            near = nearest_name(name, {*names, *known})
            raise ValueError(f'{option}: neither the config nor the runner has a {name}{near}')
        if option not in known and option in names:
            uses = [path for path in _places_of(cfg[option], cfg) if path.split('.')[0] in known]
            if uses:
                raise ValueError(
                    f'{option} is a variable of the config file: its value was copied when the '
                    f'file was read, so changing it now has no effect; set '
                    f'{_listed(uses, 4)}'
                )


def problems_of(cfg: Config) -> Iterator[str]:
    """The problems of a config, one line each; see :func:`check_config`."""
    scope = cfg.get('default_scope', 'mmengine')
    if scope not in roots.MODELS.children and find_spec(scope) is None:
        near = nearest_name(scope, ('mmpretrain', 'mmseg', 'mmengine', *roots.MODELS.children))
        yield f'default_scope: there is no package {scope}{near}'
        return
    yield from _top_level(cfg)
    yield from _values(cfg)
    model = cfg.get('model')
    if isinstance(model, dict):
        yield from _object(model, 'model', roots.MODELS, scope)
    for stage in ('train', 'val', 'test'):
        loader, loop = cfg.get(f'{stage}_dataloader'), cfg.get(f'{stage}_cfg')
        if isinstance(loader, dict):
            yield from _dataloader(loader, f'{stage}_dataloader', scope)
        if isinstance(loop, dict):
            by_epoch = 'Epoch' if loop.get('by_epoch', True) else 'Iter'
            default = f'{by_epoch}BasedTrainLoop' if stage == 'train' else f'{stage.title()}Loop'
            extra = ('by_epoch',) if stage == 'train' else ()
            yield from _object(loop, f'{stage}_cfg', roots.LOOPS, scope, extra, default)
        evaluator = cfg.get(f'{stage}_evaluator')
        if isinstance(evaluator, dict) and 'metrics' in evaluator:
            path = f'{stage}_evaluator'
            yield from _object(evaluator, path, roots.EVALUATOR, scope, default='Evaluator')
        else:
            yield from _objects(evaluator, f'{stage}_evaluator', roots.METRICS, scope)
    if isinstance(cfg.get('optim_wrapper'), dict):
        yield from _optim_wrapper(cfg.optim_wrapper, scope)
    schedulers = cfg.get('param_scheduler')
    if isinstance(schedulers, dict) and 'type' not in schedulers:  # several optimizers
        schedulers = None
    extra = ('convert_to_iter_based',)
    yield from _objects(schedulers, 'param_scheduler', roots.PARAM_SCHEDULERS, scope, extra)
    for name, hook in (cfg.get('default_hooks') or {}).items():
        path, near = f'default_hooks.{name}', nearest_name(name, set(cfg.default_hooks) - {name})
        if isinstance(hook, dict) and 'type' not in hook:
            yield f'{path} has no type{near}'
        yield from _objects(hook, path, roots.HOOKS, scope, ('priority',))
    yield from _objects(cfg.get('custom_hooks'), 'custom_hooks', roots.HOOKS, scope, ('priority',))
    for name, registry, default in (
        ('visualizer', roots.VISUALIZERS, 'Visualizer'),
        ('log_processor', roots.LOG_PROCESSORS, 'LogProcessor'),
        ('model_wrapper_cfg', roots.MODEL_WRAPPERS, 'MMDistributedDataParallel'),
    ):
        if isinstance(cfg.get(name), dict):
            yield from _object(cfg[name], name, registry, scope, default=default)
    for path, allowed in (
        ('env_cfg', _OF_ENV),
        ('env_cfg.mp_cfg', _parameters(set_multi_processing)),
        ('randomness', _parameters(set_random_seed)),
        ('auto_scale_lr', ('base_batch_size', 'enable')),
    ):
        node = cfg
        for name in path.split('.'):
            node = node.get(name) if isinstance(node, dict | Config) else None
        if isinstance(node, dict):
            yield from _unknown(node, path, path, allowed)


def runner_keys() -> set[str]:
    """The names at the top of a config that MMEngine's runner reads."""
    return _parameters(Runner) - {'cfg'} | set(_ALSO_READ)


def option_names(target: Any) -> set[str] | None:
    """The keyword arguments of a class or function; None if it takes any, or if they are unknown.

    If a class only passes ``**kwargs`` on to a parent's ``__init__``, the parent's are included.
    """
    if not inspect.isclass(target):
        return _closed_parameters(target)
    if issubclass(target, CheckpointHook):  # passes them to Runner.save_checkpoint
        return _named_parameters(target.__init__) | _named_parameters(Runner.save_checkpoint)
    names, mro = set(), list(target.__mro__)
    while mro:
        owner = mro.pop(0)
        init = vars(owner).get('__init__')
        if owner in (nn.Module, object):  # these take no keyword, whatever their signatures say
            return names
        if init is None:
            continue
        closed = _closed_parameters(init)
        if closed is not None:
            return names | closed
        names |= _named_parameters(init)
        parent = _receiver_of_kwargs(init)
        if parent is None:
            return None
        while parent != 'super' and mro and mro[0].__name__ != parent:
            mro.pop(0)
    return names


# The parts of a config -------------------------------------------------------------------------


def _top_level(cfg: Config) -> Iterator[str]:
    known = runner_keys()
    for name in cfg:
        if name not in known and (near := nearest_name(name, known, cutoff=0.92)):
            yield f'the runner does not read {name}{near}'
    if not isinstance(cfg.get('model'), dict):
        yield f'model must be a dict with a type, got {cfg.get("model")!r}'
    groups = [('train_dataloader', 'train_cfg', 'optim_wrapper')]
    groups += [
        tuple(f'{s}_{n}' for n in ('dataloader', 'cfg', 'evaluator')) for s in ('val', 'test')
    ]
    for group in groups:
        missing = [name for name in group if cfg.get(name) is None]
        if 0 < len(missing) < len(group):
            given = [name for name in group if name not in missing]
            yield (
                f'{" and ".join(missing)} must be set, because {" and ".join(given)} '
                f'{"is" if len(given) == 1 else "are"}; or set all three to None'
            )


def _values(cfg: Config) -> Iterator[str]:
    """Values that MMEngine takes unchecked, and that no run can be made with."""
    loop = cfg.get('train_cfg')
    for name in ('max_epochs', 'max_iters'):
        value = loop.get(name) if isinstance(loop, dict) else None
        if value is not None and not (_is_integer(value) and value >= 1):
            yield f'train_cfg.{name} must be an integer ≥ 1, got {value!r}'
    optimizer = (cfg.get('optim_wrapper') or {}).get('optimizer')
    for name, value in (optimizer if isinstance(optimizer, dict) else {}).items():
        if isinstance(value, float) and not math.isfinite(value):
            yield f'optim_wrapper.optimizer.{name} must be a finite number, got {value}'
    randomness = cfg.get('randomness')
    seed = randomness.get('seed') if isinstance(randomness, dict) else None
    if seed is not None and not (_is_integer(seed) and 0 <= seed < 2**32):
        yield f'randomness.seed must be an integer in 0..{2**32 - 1}, got {seed!r}'
    hooks = cfg.get('custom_hooks') or []
    if not isinstance(hooks, list | tuple) or not all(isinstance(h, dict | Hook) for h in hooks):
        yield f'custom_hooks must be a list of dicts with a type, got {hooks!r}'


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _dataloader(node: dict, path: str, scope: str) -> Iterator[str]:
    allowed = _parameters(DataLoader) | set(_OF_LOADERS)
    yield from _unknown(node, path, 'a dataloader', allowed)
    for part, registry in (
        ('dataset', roots.DATASETS),
        ('sampler', roots.DATA_SAMPLERS),
        ('batch_sampler', roots.DATA_SAMPLERS),
        ('collate_fn', roots.FUNCTIONS),
        ('worker_init_fn', roots.FUNCTIONS),
    ):
        if isinstance(node.get(part), dict):
            yield from _object(node[part], f'{path}.{part}', registry, scope)
        elif part in ('dataset', 'sampler') and node.get(part) is None:
            yield f'{path} has no {part}'


def _optim_wrapper(node: dict, scope: str) -> Iterator[str]:
    optimizer = node.get('optimizer')
    if not isinstance(optimizer, dict):
        return  # several optimizers: their constructor defines the options
    path, extra = 'optim_wrapper', _OF_OPTIM_WRAPPERS
    yield from _object(node, path, roots.OPTIM_WRAPPERS, scope, extra, 'OptimWrapper')
    yield from _object(optimizer, f'{path}.optimizer', roots.OPTIMIZERS, scope)
    constructor = dict(type=node.get('constructor', 'DefaultOptimWrapperConstructor'))
    target = _resolve(constructor, roots.OPTIM_WRAPPER_CONSTRUCTORS, scope)
    if target is None:
        registry = roots.OPTIM_WRAPPER_CONSTRUCTORS
        yield _not_registered(constructor['type'], f'{path}.constructor', registry, scope)
    elif isinstance(node.get('paramwise_cfg'), dict):
        options, path = node.paramwise_cfg, f'{path}.paramwise_cfg'
        yield from _unknown(options, path, target.__name__, _options_read(target))
        # everything goes into the optimizer's parameter groups, so other names may be valid
        for pattern, multipliers in (options.get('custom_keys') or {}).items():
            for name in multipliers:
                near = nearest_name(name, ('lr_mult', 'decay_mult'), cutoff=0.75)
                if near and name not in ('lr_mult', 'decay_mult'):
                    yield f'{path}.custom_keys[{pattern!r}].{name}: nothing reads it{near}'


def _objects(
    value: Any, path: str, registry: Registry, scope: str, extra: Collection[str] = ()
) -> Iterator[str]:
    """The problems of one config with a type, or of nested lists of them."""
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _objects(item, f'{path}.{index}', registry, scope, extra)
    elif isinstance(value, dict) and 'type' in value:
        yield from _object(value, path, registry, scope, extra)


def _object(
    node: dict,
    path: str,
    registry: Registry,
    scope: str,
    extra: Collection[str] = (),
    default: str | None = None,
) -> Iterator[str]:
    """The problems of one config with a type: what it names, its keys, and its parts.

    Args:
        node: the config.
        path: its place in the whole config, dotted.
        registry: MMEngine's root registry for this kind.
        scope: of the names in it, unless it has its own ``_scope_``.
        extra: keys that are removed before the class gets the rest.
        default: its type if it names none.
    """
    scope = node.get('_scope_') or scope
    kind = node.get('type', default)
    if kind is None:
        yield f'{path} has no type{nearest_name("type", set(node))}'
        return
    target = _resolve(dict(node, type=kind), registry, scope)
    if target is None:
        yield _not_registered(kind, f'{path}.type', registry, scope)
        return
    names = option_names(target)
    if names is not None:
        names -= set(_NOT_OPTIONS.get(registry, ()))
        yield from _unknown(node, path, target.__name__, names | set(extra))
    parts = {} if target.__name__ in _FOREIGN else _PARTS.get(registry, {})
    for key, part in parts.items():
        yield from _objects(node.get(key), f'{path}.{key}', part, scope)


def _unknown(node: dict, path: str, owner: str, allowed: Collection[str]) -> Iterator[str]:
    for key in node:
        if key not in allowed and key not in _OF_ALL:
            near = nearest_name(str(key), allowed)
            yield (
                f'{path}.{key}: {owner} has no option {key}{near}; it has '
                f'{", ".join(sorted(allowed)) or "none"}'
            )


def _resolve(node: dict, registry: Registry, scope: str) -> Any:
    """The class or function that ``node['type']`` names; None if there is none."""
    kind, scope = node['type'], node.get('_scope_') or scope
    return _scoped(registry, scope).get(kind) if isinstance(kind, str) else kind


def _scoped(registry: Registry, scope: str) -> Registry:
    """The registry of a package, or MMEngine's own where the package has none of this kind."""
    with suppress(ImportError):
        import_module(f'{scope}.registry')  # where packages define theirs
    return registry.children.get(scope, registry)


def _not_registered(kind: str, path: str, registry: Registry, scope: str) -> str:
    names, scoped = set(), _scoped(registry, scope)
    while scoped is not None:
        names |= set(scoped.module_dict)
        scoped = scoped.parent
    near = nearest_name(kind.split('.')[-1], names)
    return f'{path}: no {kind} among the {len(names)} registered {registry.name}s{near}'


def _places_of(value: Any, node: Any, path: str = '') -> Iterator[str]:
    """The dotted paths below ``node`` that hold an equal value of the same type."""
    items = enumerate(node) if isinstance(node, list | tuple) else node.items()
    for key, item in items:
        place = f'{path}.{key}' if path else str(key)
        if type(item) is type(value) and item == value:
            yield place
        elif isinstance(item, dict | list | tuple):
            yield from _places_of(value, item, place)


def _listed(names: list[str], most: int) -> str:
    return ', '.join(names[:most]) + (', ...' if len(names) > most else '')


# What a signature tells ------------------------------------------------------------------------


def _signature(function: Any) -> list[inspect.Parameter] | None:
    try:
        return [p for p in inspect.signature(function).parameters.values() if p.name != 'self']
    except (TypeError, ValueError):  # of C
        return None


def _named_parameters(function: Any) -> set[str]:
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {p.name for p in _signature(function) or () if p.kind in named}


def _closed_parameters(function: Any) -> set[str] | None:
    """The names that a function takes; None if it has ``**kwargs``."""
    parameters = _signature(function)
    if parameters is None or any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return _named_parameters(function)


def _parameters(target: Any) -> set[str]:
    return option_names(target) or set()


def _receiver_of_kwargs(init: Any) -> str | None:
    """Whose ``__init__`` gets all of ``**kwargs``: ``'super'`` or a class by name.

    None if they are used in another way, or if there is no source.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(init)))
    except (OSError, TypeError, SyntaxError):
        return None
    (kwargs,) = (p.name for p in _signature(init) if p.kind is p.VAR_KEYWORD)
    receivers, uses = set(), 0
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == kwargs:
            uses += 1
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        handed_on = [k for k in node.keywords if k.arg is None and _is_name(k.value, kwargs)]
        if node.func.attr == '__init__' and handed_on:
            owner = node.func.value
            is_super = isinstance(owner, ast.Call) and _is_name(owner.func, 'super')
            receivers.add('super' if is_super else ast.unparse(owner).split('.')[-1])
            uses -= 1
    return receivers.pop() if len(receivers) == 1 and uses == 0 else None


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _options_read(constructor: type) -> set[str]:
    """The keys of ``paramwise_cfg`` that the source of a class and its parents looks up."""
    source = ''.join(inspect.getsource(c) for c in constructor.__mro__ if c is not object)
    return set(re.findall(r"paramwise_cfg(?:\.get\(|\.pop\(|\[)\s*'(\w+)'", source))
