"""The tool behind docs/backbones.md: each kind of feature, failures, and the page."""

import json
import os
import re
import signal
import time
from pathlib import Path

import mmpretrain
import pytest
import torch
from mmpretrain.registry import MODELS
from torch import nn

from mmebm.evaluation import backbone_check
from mmebm.evaluation.backbone_check import (
    cases,
    check_backbone,
    check_backbone_in_process,
    constructor_arguments,
    smallest,
)
from tests.backbones import BACKBONES
from tests.tools import load_tool

ROOT = Path(__file__).parents[2]
PAGE = ROOT / 'docs/backbones.md'


@pytest.fixture
def tool():
    return load_tool('benchmarks/check_backbones')


def case(**options):
    return dict(library='MMPretrain', name=options['type'], options=options)


def timm_case(model_name, **options):
    return case(type='TIMMBackbone', model_name=model_name, **options)


WORKING = {
    '(B, D)': (case(**BACKBONES['ViT'][0]), '(2, 32)', False),
    'maps': (
        case(type='ResNet', depth=18, base_channels=8, stem_channels=8),
        '(2, 64, 2, 2)',
        True,
    ),
    '(B, L, D)': (
        timm_case('vit_tiny_patch16_224', embed_dim=32, depth=1, num_heads=2),
        '(2, 17, 32)',
        False,
    ),
    '(B, H, W, D)': (
        timm_case('swin_tiny_patch4_window7_224', embed_dim=8, depths=(1, 2), num_heads=(1, 2)),
        '(2, 8, 8, 16)',
        False,
    ),
    'hybrid': (
        timm_case('vit_tiny_r_s16_p8_224', embed_dim=32, depth=1, num_heads=2),
        '(2, 5, 32)',
        False,
    ),
    'nested': (
        case(
            type='Conformer',
            arch=dict(embed_dims=32, channel_ratio=1, num_heads=2, depths=6),
            base_channels=16,
        ),
        '2, last: (2, 32)',
        True,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize('kind', WORKING)
def test_each_kind_of_features_works(tool, kind):
    tried, features, coupled = WORKING[kind]
    row = check_backbone(**tried, timed_steps=1)
    assert 'error' not in row, row['error']
    assert row['energy']
    assert row['training_step']
    assert row['restoration']
    assert row['features'] == features
    assert row['coupled'] == coupled
    assert row.get('group_norm', False) == coupled
    assert len(row['no_gradient']) < row['tensors'] / 5
    assert row['ratio'] == row['energy_ms'] / row['supervised_ms'] > 0
    assert len(tool.good_cells(row)) == len(tool.COLUMNS)


@pytest.mark.parametrize(
    ('tried', 'stage', 'words'),
    [
        (dict(library='MMPretrain', name='LeNet5'), 'construction and features', '1 channels'),
        (
            case(type='SimMIMSwinTransformer', arch=BACKBONES['Swin'][0]['arch']),
            'construction and features',
            "missing 1 required positional argument: 'mask'",
        ),
        (case(type='MAEViT', arch=BACKBONES['ViT'][0]['arch']), 'energy', 'floating-point'),
    ],
)
def test_what_does_not_work_says_why(tool, tried, stage, words):
    row = check_backbone(**tried, timed_steps=1)
    assert row['error']['stage'] == stage
    assert words in row['error']['words']
    assert not row['training_step']
    cells = tool.bad_cells(row)
    assert len(cells) == len(tool.ERROR_COLUMNS)
    assert words in cells[-1]


def test_an_error_in_the_code_of_a_backbone_shows_its_line():
    tried = case(type='SparseResNet', depth=18, norm_cfg=dict(type='BN'))
    error = check_backbone(**tried, timed_steps=1)['error']
    assert error['words'] == "'NoneType' object has no attribute 'shape'"
    assert error['where'].startswith('sparse_modules.py: ')
    assert '_cur_active' in error['where']


def test_a_missing_second_derivative_stops_the_training_step(monkeypatch):
    class Once(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 16, stride=16)

        def forward(self, x):
            q = self.conv(x).flatten(2).mT[:, None].contiguous()  # as the operator demands
            return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, q, q)[0][:, 0]

    monkeypatch.setattr(backbone_check, 'build', lambda options: Once())
    row = check_backbone(**case(type='ResNet', depth=18), timed_steps=1)
    assert (row['energy'], row['training_step'], row['restoration']) == (True, False, False)
    assert row['error']['stage'] == 'training step'
    assert 'has no second derivative' in row['error']['words']


@pytest.mark.slow
def test_crashes_hangs_and_memory_affect_one_row(monkeypatch):
    huge = dict(embed_dims=16384, num_layers=1, num_heads=2, feedforward_channels=64)
    monkeypatch.setattr(backbone_check, 'GIGABYTES', 1)
    row = check_backbone_in_process(**case(type='VisionTransformer', arch=huge))
    assert 'memory' in row['error']['words']

    def kill(**_):
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(backbone_check, 'check_backbone', kill)
    error = check_backbone_in_process(**case(type='ResNet'))['error']
    assert (error['stage'], error['type']) == ('process', 'Crash')
    assert 'exit code -9' in error['words']
    monkeypatch.setattr(backbone_check, 'SECONDS', 0.5)
    monkeypatch.setattr(backbone_check, 'check_backbone', lambda **_: time.sleep(60))
    assert check_backbone_in_process(**case(type='ResNet'))['error']['type'] == 'Timeout'


def test_arguments_are_found_in_the_classes():
    def first(name):
        return next(backbone_check.option_sets(MODELS.get(name)))

    backbone_check.registered_backbones()
    assert first('VisionTransformer') == dict(type='VisionTransformer', arch='deit-t')
    assert first('ResNeXt') == dict(type='ResNeXt', depth=50)
    assert first('AlexNet') == dict(type='AlexNet')
    arguments, open_ended = constructor_arguments(MODELS.get('MoCoV3ViT'))
    assert arguments['patch_size'].default == 16  # VisionTransformer's
    assert open_ended
    assert constructor_arguments(MODELS.get('TIMMBackbone'))[1]
    assert not constructor_arguments(MODELS.get('VisionTransformer'))[1]
    assert smallest({'b': dict(depths=[2, 9], widths=4), 'a': [[2, 2], 'x', (True, 4.5)]}) == 'a'


@pytest.mark.parametrize(
    ('shape', 'expected'),
    [((2, 5), 5), ((2, 9, 7), 7), ((2, 7, 9), 7), ((2, 7, 4, 4), 7), ((2, 4, 4, 7), 7)],
)
def test_the_axis_of_the_channels(shape, expected):
    assert backbone_check.channels(nn.LayerNorm(7), torch.zeros(shape)) == expected


def row_of(name, **error):
    return dict(library='MMPretrain', name=name, energy=False, training_step=False,
                restoration=False, error=dict(stage='energy', type='E', words='a|b'))  # fmt: skip


def test_a_second_run_updates_its_rows_and_keeps_text_and_other_rows(tool, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        tool,
        'check_backbone_in_process',
        lambda device, **case: seen.append(case) or row_of(case['name']),
    )
    out = tmp_path / 'page.md'
    out.write_text(f'before\n{tool.BEGIN}\nold\n{tool.END}\nafter\n')
    tool.main(['--only', '^(VGG|alexnet)$', '--out', str(out)])
    tool.main(['--only', '^LeNet5$', '--out', str(out), '--device', 'cpu'])
    assert [case['name'] for case in seen] == ['AlexNet', 'VGG', 'LeNet5']
    text = out.read_text()
    assert text.startswith('before\n')
    assert text.endswith('after\n')
    assert 'old' not in text
    assert re.findall(r'^\| `(\w+)`', text, re.MULTILINE) == ['AlexNet', 'LeNet5', 'VGG']
    assert 'a\\|b' in text
    with pytest.raises(SystemExit):
        tool.main(['--only', 'no such network', '--out', str(out)])
    store = out.with_suffix('.json')
    store.write_text(store.read_text().replace('"batch": 2', '"batch": 3'))
    with pytest.raises(SystemExit):  # rows of two measurements in one table
        tool.main(['--only', '^LeNet5$', '--out', str(out)])
    out.write_text('no marks')
    with pytest.raises(ValueError, match='needs the lines'):
        tool.write_page(out, [], {})


def test_the_page_is_complete_and_made_from_its_file(tool):
    stored = json.loads(PAGE.with_suffix('.json').read_text())
    assert tool.tables(stored['rows'], stored['measured_with']) in PAGE.read_text()
    if stored['measured_with']['mmpretrain'] != mmpretrain.__version__:
        pytest.skip('the page is about another version of MMPretrain')
    rows = {(row['library'], row['name']) for row in stored['rows']}
    assert {('MMPretrain', name) for name in backbone_check.registered_backbones()} <= rows
    assert rows == {(case['library'], case['name']) for case in cases()}
    assert len(rows) > 66
