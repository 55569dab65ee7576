"""Does energy restoration work on a backbone? Tried with random weights, on random images.

The backbones are those in MMPretrain's registry, and one of each of timm's main families.
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
# Constructor arguments without a default that no class says the choices of.
REQUIRED = dict(model_name='resnet18')
SIZES = (64, 128, 224)  # of the images, tried in this order, then the size that a class asks for
BATCH = 2
NUM_STEPS = 2
TIMED_STEPS = 3  # of each kind, after one to warm up
TIMED_SECONDS = 4  # after which fewer will do
SECONDS = 1200  # per backbone
GIGABYTES = 10  # per backbone, on the CPU


def registered_backbones() -> dict[str, type]:
    """Name → class of what MMPretrain has in its registry as a backbone, in alphabetical order."""
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
    """All that :func:`check_backbone` can try: its ``library``, ``name`` and ``options``."""
    found = [dict(library='MMPretrain', name=name) for name in registered_backbones()]
    for family, model in TIMM_MODELS.items():
        options = dict(type='TIMMBackbone', model_name=model)
        found.append(dict(library='timm', name=f'{family}: {model}', options=options))
    return found


def constructor_arguments(cls: type) -> tuple[dict[str, inspect.Parameter], bool]:
    """The arguments of a class and, through ``**kwargs``, of its parents; whether it has those."""
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
    """The key of the architecture whose declaration has the smallest sum of numbers."""

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
    """Options and image size to try: small first, told to the class where it takes ``img_size``."""
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
    """A backbone with random weights, none of them constant, so that every path is open."""
    torch.manual_seed(0)
    backbone = revert_sync_batchnorm(MODELS.build(dict(options)))  # one process, maybe no GPU
    if hasattr(backbone, 'init_weights'):
        backbone.init_weights()
    with torch.no_grad():  # residual branches and layer scales often start at zero
        for parameter in backbone.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return backbone


def find_arguments(name: str, options: dict | None) -> tuple[nn.Module, dict, int, Tensor]:
    """The first arguments and image size that give features: backbone, both, and the features.

    Raises:
        Exception: that of the first arguments at the last size, where none do.
    """
    choices = option_sets(MODELS.get(name)) if options is None else [options]
    choices, errors = list(choices), []
    for choice in choices:
        error = None
        for options, size in image_sizes(choice):
            try:
                backbone = build(options)
                backbone.eval()  # MMPretrain's return None here
                with torch.no_grad():
                    features = backbone(torch.randn(BATCH, 3, size, size))
                return backbone, options, size, features
            except Exception as e:
                # what an argument too many raises says nothing about the backbone
                if error is None or 'img_size' not in str(e):
                    error = e
        errors.append(error)
        # some classes look up in their **kwargs what a parent has a default for
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

    That of the possible axes which more norms and biases of the backbone have the size of.
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

    In this order: build it and look at its features, compute an energy and its gradient, train a
    few steps beside supervised ones, restore, and, where batch norm couples the images of a batch,
    the same in :class:`mmebm.GroupNormBackbone`. No exception leaves this function.

    Args:
        name: of the row; without ``options`` also that of a class in MMPretrain's registry, for
            which arguments and an image size that work are searched.
        options: config of the backbone, with its ``type``; only the image size is searched.
        library: of the row.
        device: ``'cpu'`` or ``'cuda'``.
        timed_steps: pairs of a supervised and an energy step that are timed, after a first one.

    Returns:
        A row: ``library`` and ``name``; ``energy``, ``training_step``, ``restoration``, whether
        each was reached and worked; ``arguments``, ``image_size`` (pixels), ``features`` (their
        shape), ``parameters``; ``coupled``, whether the energy of an image depends on the others of
        its batch, and then ``group_norm``, whether it no longer does with group norm;
        ``no_gradient``, names of parameters that get none, of ``tensors``; ``supervised_ms``,
        ``energy_ms``, medians, and their ``ratio``; and, where it stopped, ``error``: its
        ``stage``, ``type``, ``words``, and ``where``, the line if it is the library's own.
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
    """The message, on one line, with neither addresses nor paths of this machine."""
    text = re.sub(r'(?<![\w.])/\S*/', '', ' '.join(str(error).split()))
    return re.sub(r' at 0x[0-9a-f]+', '', text)


def where(error: Exception) -> str:
    """The line that raised it, if it is one of the backbone's own."""
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
    """Whether, in training mode, the energy of an image changes with its neighbour."""
    energies = []
    model.train()
    for neighbour in (1, 2):
        torch.manual_seed(0)  # the same dropout in both
        with torch.no_grad():
            energies.append(model.energy(images[[0, neighbour]]))
    difference = (energies[0][0] - energies[1][0]).abs()
    return bool(difference > 1e-4 * energies[0][0].abs())


def energy_step(model: nn.Module, corrupted: Tensor, clean: Tensor) -> Tensor:
    """Loss and backward."""
    loss = model.loss([corrupted, clean])['loss']
    loss.backward()
    return loss.detach()


def supervised_step(backbone: nn.Module, classifier: nn.Linear, images: Tensor) -> Tensor:
    """Loss and backward of a plain classifier on the same backbone."""
    features = pool_features(backbone(images), classifier.in_features)
    labels = torch.arange(len(images), device=images.device)
    loss = nn.functional.cross_entropy(classifier(features), labels)
    loss.backward()
    return loss.detach()


def train(model: nn.Module, steps: list, device: str, timed_steps: int) -> dict:
    """Alternate supervised and energy steps: their medians, and who never gets a gradient."""
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
        # several steps, since drop path may skip a layer in one of them
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
    """Seconds: of the processor on the CPU, so that other work on the machine does not count."""
    if device == 'cpu':
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def check_backbone_in_process(
    name: str, options: dict | None = None, library: str = 'MMPretrain', device: str = 'cpu'
) -> dict:
    """:func:`check_backbone` in a process of its own, with limits of time and memory.

    A backbone that crashes, hangs or needs too much memory gives a row with an ``error``.
    """
    case = dict(name=name, options=options, library=library, device=device)
    # a process forked from one that has used a GPU cannot use it
    context = multiprocessing.get_context('fork' if device == 'cpu' else 'forkserver')
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sender, case))
    process.start()
    sender.close()
    try:
        if receiver.poll(SECONDS):
            return receiver.recv()
        kind, text = 'Timeout', f'not done after {SECONDS} s'
    except EOFError:  # it died
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
    init_default_scope('mmpretrain')  # as a runner does: MMCV finds MMPretrain's layers by it
    if case['device'] == 'cpu':
        torch.set_num_threads(1)
        resource.setrlimit(resource.RLIMIT_DATA, (GIGABYTES * 2**30,) * 2)
    sender.send(check_backbone(**case))
