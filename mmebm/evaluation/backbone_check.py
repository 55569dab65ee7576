"""Check whether energy restoration works on a backbone, with random weights and random images.

Covers every backbone in MMPretrain's registry, and one of each of timm's main families.
"""

import inspect
import multiprocessing
import re
import resource
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

import timm
import torch
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmpretrain.models import backbones as mmpretrain_backbones
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ..backbones import GroupNormBackbone
from ..models import EnergyRestorationAlgorithm, energy_gradient
from ..models.energy_head import pool_features

# One small network per family.
TIMM_MODELS = {
    'ViT': 'vit_tiny_patch16_224',
    'DeiT III': 'deit3_small_patch16_224',
    'EVA-02': 'eva02_tiny_patch14_224',
    'ConvNeXt': 'convnext_atto',
    'ConvNeXt v2': 'convnextv2_atto',
    'Swin': 'swin_tiny_patch4_window7_224',
    'Swin v2': 'swinv2_tiny_window8_256',
    'MaxViT': 'maxvit_pico_rw_256',
    'ResNet': 'resnet18',
    'EfficientNet': 'efficientnet_b0',
    'MobileNet v4': 'mobilenetv4_conv_small',
    'CaiT': 'cait_xxs24_224',
    'XCiT': 'xcit_nano_12_p16_224',
    'BEiT': 'beit_base_patch16_224',
    'hybrid ViT': 'vit_tiny_r_s16_p8_224',
}
# Required constructor arguments whose choices no class declares.
REQUIRED = dict(model_name='resnet18')
SIZES = (64, 128, 224)  # image sides to try in pixels, then the class's default
BATCH = 2
NUM_STEPS = 2
TIMED_STEPS = 3  # of each kind, after one warm-up step
TIMED_SECONDS = 4  # after this long, fewer steps are timed
SECONDS = 1200  # limit per backbone
GIGABYTES = 10  # limit per backbone, on the CPU


def registered_backbones() -> dict[str, type]:
    """Name → class of every backbone in MMPretrain's registry, in alphabetical order."""
    exported = tuple(c for c in vars(mmpretrain_backbones).values() if inspect.isclass(c))
    MODELS.import_from_location()
    return {
        name: cls
        for name, cls in sorted(MODELS.module_dict.items(), key=lambda item: item[0].lower())
        if inspect.isclass(cls)
        and issubclass(cls, exported)
        and cls.__module__.startswith('mmpretrain.')
    }


def cases() -> list[dict]:
    """Arguments of :func:`check_backbone` for every backbone it can try."""
    found = [dict(library='MMPretrain', name=name) for name in registered_backbones()]
    for family, model in TIMM_MODELS.items():
        options = dict(type='TIMMBackbone', model_name=model)
        found.append(dict(library='timm', name=f'{family}: {model}', options=options))
    return found


def constructor_arguments(cls: type) -> tuple[dict[str, inspect.Parameter], bool]:
    """A class's arguments, its parents' included where ``**kwargs`` passes them on.

    Also returns whether the class takes ``**kwargs``.
    """
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    arguments, open_ended = {}, []
    for parent in cls.__mro__:
        if '__init__' not in vars(parent):
            continue
        own = inspect.signature(parent.__init__).parameters
        arguments = {**{n: p for n, p in own.items() if p.kind in kinds}, **arguments}
        open_ended.append(any(p.kind == p.VAR_KEYWORD for p in own.values()))
        if not open_ended[-1]:
            break
    arguments.pop('self')
    return arguments, open_ended[0]


def smallest(declared: Mapping):
    """The key of the architecture whose declared numbers have the smallest sum."""

    def total(value) -> float:
        if isinstance(value, Mapping):
            return total(list(value.values()))
        if isinstance(value, Sequence) and not isinstance(value, str):
            return sum(map(total, value))
        return value if isinstance(value, int | float) else 0

    return min(declared, key=lambda key: total(declared[key]))


def option_sets(cls: type) -> Iterator[dict]:
    """Arguments to try: the smallest architecture that the class declares, then its defaults."""
    arguments, _ = constructor_arguments(cls)
    options = dict(type=cls.__name__)
    options |= {name: REQUIRED[name] for name in arguments.keys() & REQUIRED.keys()}
    declared = {
        'arch': getattr(cls, 'arch_zoo', None) or getattr(cls, 'arch_settings', None),
        'depth': getattr(cls, 'arch_settings', None),
    }
    for name, architectures in declared.items():
        if name in arguments and isinstance(architectures, Mapping):
            yield {**options, name: smallest(architectures)}
            if arguments[name].default is inspect.Parameter.empty:
                return
            break
    yield options


def image_sizes(options: dict) -> Iterator[tuple[dict, int]]:
    """Options and image size to try, small first; with ``img_size`` if the class takes it."""
    arguments, takes_any = constructor_arguments(MODELS.get(options['type']))
    own = arguments['img_size'].default if 'img_size' in arguments else None
    pair = isinstance(own, Sequence)
    own = own[0] if pair else own
    if options['type'] == 'TIMMBackbone':
        pretrained_cfg = timm.get_pretrained_cfg(options['model_name'])
        own = pretrained_cfg.input_size[-1]
    for size in dict.fromkeys((*SIZES, *([own] if isinstance(own, int) else []))):
        if 'img_size' in arguments or takes_any:
            yield {**options, 'img_size': (size, size) if pair else size}, size
        if 'img_size' not in arguments:
            yield options, size


def build(options: dict) -> nn.Module:
    """A backbone with random weights, none of them zero, so that gradients reach every layer."""
    torch.manual_seed(0)
    # SyncBatchNorm trains on GPUs only
    backbone = revert_sync_batchnorm(MODELS.build(dict(options)))
    if hasattr(backbone, 'init_weights'):
        backbone.init_weights()
    with torch.no_grad():  # residual branches and layer scales often start at zero
        for parameter in backbone.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return backbone


def find_arguments(name: str, options: dict | None) -> tuple[nn.Module, dict, int, Tensor]:
    """Find the first arguments and image size with which a backbone returns features.

    Returns:
        The backbone, its arguments, the image size in pixels, and the features.

    Raises:
        Exception: none work; the error of the first arguments, from the last size that says more
            than that ``img_size`` is unknown.
    """
    choices = option_sets(MODELS.get(name)) if options is None else [options]
    choices, errors = list(choices), []
    for choice in choices:
        error = None
        for options, size in image_sizes(choice):
            try:
                backbone = build(options)
                backbone.eval()  # not chained: MMPretrain's returns None
                with torch.no_grad():
                    features = backbone(torch.randn(BATCH, 3, size, size))
                return backbone, options, size, features
            except Exception as e:
                # that img_size is unknown says nothing about the backbone
                if error is None or 'img_size' not in str(e):
                    error = e
        errors.append(error)
        # some classes require in **kwargs what their parent has a default for
        arguments, _ = constructor_arguments(MODELS.get(choice['type']))
        wanted = str(error.args[0]) if isinstance(error, KeyError) else None
        if wanted in arguments.keys() - choice.keys():
            choices.append({**choice, wanted: arguments[wanted].default})
    raise errors[0]


def last_tensor(features) -> Tensor:
    while isinstance(features, Sequence):
        features = features[-1]
    return features


def channels(backbone: nn.Module, features: Tensor) -> int:
    """D of features ``(B, D)``, ``(B, L, D)``, ``(B, D, L)``, ``(B, D, H, W)``, ``(B, H, W, D)``.

    Of the possible axes, the one whose size most norms and biases of the backbone share.
    """
    vectors = Counter(len(p) for p in backbone.parameters() if p.dim() == 1)
    axes = {2: (1,), 3: (2, 1), 4: (1, 3)}.get(features.dim(), (-1,))
    return max((features.shape[axis] for axis in axes), key=lambda size: vectors[size])


def shape_of(features) -> str:
    if isinstance(features, Sequence):
        last = shape_of(features[-1])
        return last if len(features) == 1 else f'{len(features)}, last: {last}'
    return str(tuple(features.shape)) if isinstance(features, Tensor) else type(features).__name__


def check_backbone(
    name: str,
    options: dict | None = None,
    library: str = 'MMPretrain',
    device: str = 'cpu',
    timed_steps: int = TIMED_STEPS,
) -> dict:
    """Try energy restoration on a backbone with random weights.

    The stages: build the backbone and compute features; compute an energy and its gradient; train a
    few steps, alternating with supervised ones; restore; and, if batch norm couples the images of a
    batch, train with :func:`mmebm.GroupNormBackbone`. Errors are returned, never raised.

    Args:
        name: of the row. Without ``options`` it names a class in MMPretrain's registry, and the
            function searches for arguments and an image size that work.
        options: config of the backbone, with its ``type``; only the image size is searched.
        library: of the row.
        device: ``'cpu'`` or ``'cuda'``.
        timed_steps: number of timed pairs of a supervised and an energy step, ≥ 1.

    Returns:
        A row with these entries, as far as the check got:

        - ``library``, ``name``: as given;
        - ``energy``, ``training_step``, ``restoration``: whether each stage succeeded;
        - ``arguments``, ``image_size`` (pixels), ``features`` (shape), ``parameters`` (number);
        - ``coupled``: whether the energy of an image depends on the rest of its batch; if so,
          ``group_norm``: whether group norm removes that;
        - ``no_gradient``: names of the parameters without a gradient; ``tensors``: number of all;
        - ``supervised_ms``, ``energy_ms``: median times of a step; ``ratio``: of the two;
        - ``error``, if a stage failed: its ``stage``, ``type``, ``words`` (message) and ``where``
          (source line, if in MMPretrain or timm).
    """
    row = dict(library=library, name=name)
    row |= dict.fromkeys(('energy', 'training_step', 'restoration'), False)
    stage = 'construction and features'
    try:
        backbone, options, size, features = find_arguments(name, options)
        row['arguments'] = {k: v for k, v in options.items() if k != 'type'}
        row['image_size'] = size
        row['features'] = shape_of(features)
        row['parameters'] = sum(p.numel() for p in backbone.parameters())

        stage = 'energy'
        torch.manual_seed(0)
        last = last_tensor(features)
        in_channels = channels(backbone, last) if isinstance(last, Tensor) else 1
        head = dict(type='EnergyHead', in_channels=in_channels)
        model = algorithm(backbone, head).to(device)
        images = torch.randn(BATCH + 1, 3, size, size, device=device)
        corrupted, clean = images[:BATCH] + 0.5 * torch.randn_like(images[:BATCH]), images[:BATCH]
        energies, _ = energy_gradient(model.train().energy, corrupted)  # checks the shape
        require(energies.isfinite().all(), f'energies {energies.tolist()}')
        row['energy'] = True
        row['coupled'] = coupled(model, images)

        stage = 'training step'
        classifier = nn.Linear(in_channels, 1000).to(device)
        steps = [
            lambda: supervised_step(backbone, classifier, clean),
            lambda: energy_step(model, corrupted, clean),
        ]
        row |= train(model, steps, device, timed_steps)
        row['training_step'] = True

        stage = 'restoration'
        chain = model.eval().restore(corrupted)
        require(chain.shape == (NUM_STEPS + 1, *corrupted.shape), f'chain {tuple(chain.shape)}')
        require(chain.isfinite().all(), 'restored images are not finite')
        row['restoration'] = True

        stage = 'GroupNormBackbone'
        if row['coupled']:
            per_image = GroupNormBackbone(build(options))
            model = algorithm(per_image, head).to(device)
            row['group_norm'] = not coupled(model, images)
            energy_step(model, corrupted, clean)
    except Exception as error:
        row['error'] = dict(stage=stage, type=type(error).__name__, words=words(error))
        row['error']['where'] = where(error)
    return row


def words(error: Exception) -> str:
    """The message on one line, without memory addresses and folders."""
    text = re.sub(r'(?<![\w.])/\S*/', '', ' '.join(str(error).split()))
    return re.sub(r' at 0x[0-9a-f]+', '', text)


def where(error: Exception) -> str:
    """File and source line that raised the error, if in MMPretrain or timm; else empty."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    own = {'mmpretrain', 'timm'} & set(Path(last.filename).parts)
    return f'{Path(last.filename).name}: {last.line}' if own else ''


def require(condition: bool | Tensor, message: str) -> None:
    if not condition:
        raise ArithmeticError(message)


def algorithm(backbone: nn.Module, head: dict) -> EnergyRestorationAlgorithm:
    model = EnergyRestorationAlgorithm(backbone, head, num_steps=NUM_STEPS, step_size=1.0)
    nn.init.normal_(model.head.fc.weight, std=0.1)
    return model


def coupled(model: EnergyRestorationAlgorithm, images: Tensor) -> bool:
    """Whether, in training mode, the energy of an image depends on the other one in its batch."""
    energies = []
    model.train()
    for neighbour in (1, 2):
        torch.manual_seed(0)  # the same dropout in both
        with torch.no_grad():
            energies.append(model.energy(images[[0, neighbour]]))
    difference = (energies[0][0] - energies[1][0]).abs()
    return bool(difference > 1e-4 * energies[0][0].abs())


def energy_step(model: nn.Module, corrupted: Tensor, clean: Tensor) -> Tensor:
    """Loss and backward pass of energy restoration."""
    loss = model.loss([corrupted, clean])['loss']
    loss.backward()
    return loss.detach()


def supervised_step(backbone: nn.Module, classifier: nn.Linear, images: Tensor) -> Tensor:
    """Loss and backward pass of a plain classifier on the same backbone."""
    features = pool_features(backbone(images), classifier.in_features)
    labels = torch.arange(len(images), device=images.device)
    loss = nn.functional.cross_entropy(classifier(features), labels)
    loss.backward()
    return loss.detach()


def train(model: nn.Module, steps: list, device: str, timed_steps: int) -> dict:
    """Alternate supervised and energy steps: median times, and parameters without a gradient."""
    parameters = {
        n: p for n, p in model.named_parameters() if p.requires_grad and n.startswith('backbone.')
    }
    reached, times = set(), ([], [])
    for timed in range(timed_steps + 1):
        if timed > 1 and sum(map(sum, times)) > TIMED_SECONDS:
            break
        for which, step in enumerate(steps):
            model.zero_grad()
            started = clock(device)
            loss = step()
            seconds = clock(device) - started
            require(loss.isfinite(), f'loss {loss.item()}')
            if timed:
                times[which].append(seconds)
        gradients = {n: p.grad for n, p in parameters.items()}  # of the energy step
        require(all(g.isfinite().all() for g in gradients.values()), 'gradients are not finite')
        # over several steps, because drop path may skip a layer in one of them
        reached |= {n for n, g in gradients.items() if g.abs().sum() > 0}
    torch.optim.AdamW(model.parameters(), lr=1e-4).step()
    require(all(p.isfinite().all() for p in parameters.values()), 'weights are not finite')
    supervised, energy = map(median, times)
    return dict(
        no_gradient=[n.split('.', 1)[1] for n in parameters if n not in reached],
        tensors=len(parameters),
        supervised_ms=1000 * supervised,
        energy_ms=1000 * energy,
        ratio=energy / supervised,
    )


def clock(device: str) -> float:
    """Seconds; processor time on the CPU, so that other load on the machine does not count."""
    if device == 'cpu':
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def check_backbone_in_process(
    name: str, options: dict | None = None, library: str = 'MMPretrain', device: str = 'cpu'
) -> dict:
    """:func:`check_backbone` in a process of its own, with limits on time and memory.

    A backbone that crashes, hangs or needs too much memory gives a row with an ``error``.
    """
    case = dict(name=name, options=options, library=library, device=device)
    # a forked process cannot use a GPU that its parent has used
    context = multiprocessing.get_context('fork' if device == 'cpu' else 'forkserver')
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sender, case))
    process.start()
    sender.close()
    try:
        if receiver.poll(SECONDS):
            return receiver.recv()
        kind, text = 'Timeout', f'not finished after {SECONDS} s'
    except EOFError:  # the process died
        process.join()
        kind, text = 'Crash', f'the process ended with exit code {process.exitcode}'
    finally:
        process.kill()
        process.join()
    row = dict(library=library, name=name)
    row |= dict.fromkeys(('energy', 'training_step', 'restoration'), False)
    return row | dict(error=dict(stage='process', type=kind, words=text))


def _work(sender: Connection, case: dict) -> None:
    warnings.simplefilter('ignore')
    MMLogger.get_instance('mmebm', log_level='ERROR')
    init_default_scope('mmpretrain')  # as a runner does, so that MMCV finds MMPretrain's layers
    if case['device'] == 'cpu':
        torch.set_num_threads(1)
        resource.setrlimit(resource.RLIMIT_DATA, (GIGABYTES * 2**30,) * 2)
    sender.send(check_backbone(**case))
