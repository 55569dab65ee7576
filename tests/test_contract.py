"""What users rely on, frozen in ``data/contract.json``: names, options, state dicts and commands.

New names and options may be added without a change here. Who removes one deletes its line from the
file: that is the list of what an upgrade breaks.
"""

import argparse
import copy
import inspect
import json
from pathlib import Path

import mmengine.registry
import mmpretrain.registry
import pytest

import mmebm
from mmebm.cli.main import build_parser
from tests import pretrained
from tests.backbones import BACKBONES, VIT

CONTRACT = json.loads((Path(__file__).parent / 'data' / 'contract.json').read_text())
HEAD = dict(type='EnergyHead', in_channels=32)
TOKENS = VIT | dict(out_type='raw')
L, PATCH, DIM = 16, 8, 32
DECODER = pretrained.DECODER | dict(embed_dim=DIM)
MODELS = {
    'restoration': dict(type='EnergyRestorationAlgorithm', backbone=VIT, head=HEAD),
    'sorting': dict(type='EnergySortingAlgorithm', backbone=VIT, head=HEAD),
    'sorting, timm': dict(
        type='EnergySortingAlgorithm', backbone=BACKBONES['timm ViT'][0], head=HEAD
    ),
    'inpainting': dict(
        type='EnergyInpaintingAlgorithm',
        backbone=TOKENS,
        head=dict(
            type='PatchEnergyHead',
            in_channels=DIM,
            grid=4,
            patch_size=PATCH,
            embed_dims=8,
            num_heads=2,
            extra_values=48,
        ),
        target_generator=dict(type='PatchHOG', patch_size=PATCH, pool=4, nbins=4),
    ),
    'auto-encoder': dict(
        type='RestorationAutoEncoder',
        backbone=TOKENS,
        neck=dict(type='MAEPretrainDecoder', num_patches=L, patch_size=PATCH, **DECODER),
        head=dict(type='MAEPretrainHead', patch_size=PATCH, loss=pretrained.L2),
    ),
    'sorting auto-encoder': dict(
        type='SortingAutoEncoder',
        backbone=TOKENS,
        neck=dict(type='PositionDecoder', num_positions=L, **DECODER),
    ),
}


def option_names(kind) -> list[str]:
    """The options of a class or function, those handed on to a class of ours included."""
    if not isinstance(kind, type):
        return sorted(inspect.signature(kind).parameters)
    names = []
    for cls in kind.__mro__:
        if '__init__' not in vars(cls):
            continue
        if not cls.__module__.startswith('mmebm'):
            break
        parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
        names += [p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
        if not any(p.kind == p.VAR_KEYWORD for p in parameters):
            break
    return sorted(set(names))


def registered() -> dict[str, dict[str, list[str]]]:
    """``{registry: {name: options}}`` of all that the package registers."""
    found = {}
    for library in (mmpretrain.registry, mmengine.registry):
        for registry in vars(library).values():
            if isinstance(registry, mmengine.registry.Registry):
                for name, kind in registry.module_dict.items():
                    if kind.__module__.startswith('mmebm.'):
                        found.setdefault(registry.name, {})[name] = option_names(kind)
    return found


def commands() -> dict[str, list[str]]:
    """``{sub-command: options}``, the options without their values."""
    sub = next(
        action
        for action in build_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    return {
        name: sorted(o for o in command._option_string_actions if o.startswith('--'))
        for name, command in sub.choices.items()
    }


def state_of(name: str) -> dict[str, list[int]]:
    """The names and shapes of a small model's state dict."""
    model = mmpretrain.registry.MODELS.build(copy.deepcopy(MODELS[name]))
    return {key: list(value.shape) for key, value in model.state_dict().items()}


@pytest.mark.parametrize('registry', CONTRACT['registered'])
def test_registered_names_and_their_options(registry):
    now = registered()[registry]
    for name, options in CONTRACT['registered'][registry].items():
        assert name in now
        assert set(options) <= set(now[name]), name


def test_public_names():
    assert set(CONTRACT['public']) <= set(mmebm.__all__)
    for name in mmebm.__all__:
        assert getattr(mmebm, name) is not None


@pytest.mark.parametrize('name', MODELS)
def test_state_dict(name):
    assert state_of(name) == CONTRACT['state'][name]


@pytest.mark.parametrize('name', CONTRACT['commands'])
def test_options_of_commands(name):
    assert set(CONTRACT['commands'][name]) <= set(commands()[name])
