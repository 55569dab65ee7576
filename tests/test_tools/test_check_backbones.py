"""The probe of a backbone, and the tool behind docs/backbones.md that tries all of them."""

import json
import re
from pathlib import Path

import mmpretrain
import pytest
from mmpretrain.registry import MODELS

from mmebm.backbones.probe import own_image_size, probe, registered_backbones
from tests.backbones import BACKBONES
from tests.tools import load_tool

PAGE = Path(__file__).parents[2] / 'docs/backbones.md'
TINY = dict(embed_dim=32, depth=1, num_heads=2)
SWIN = dict(model_name='swin_tiny_patch4_window7_224', embed_dim=8, depths=(1, 2), num_heads=(1, 2))
CONFORMER = dict(embed_dims=32, channel_ratio=1, num_heads=2, depths=6)
KINDS = {  # config, shape of the features of 64² images
    '(B, D)': (BACKBONES['ViT'][0], '(2, 32)'),
    'maps': (dict(type='ResNet', depth=18, base_channels=8, stem_channels=8), '(2, 64, 2, 2)'),
    '(B, L, D)': (dict(model_name='vit_tiny_patch16_224', **TINY), '(2, 17, 32)'),
    '(B, H, W, D)': (SWIN, '(2, 8, 8, 16)'),
    'hybrid': (dict(model_name='vit_tiny_r_s16_p8_224', **TINY), '(2, 5, 32)'),
    'nested': (dict(type='Conformer', arch=CONFORMER, base_channels=16), '2, last: (2, 32)'),
}


@pytest.fixture
def tool():
    return load_tool('benchmarks/check_backbones')


@pytest.mark.slow
@pytest.mark.parametrize('kind', KINDS)
def test_each_kind_of_features_works(tool, kind, monkeypatch):
    config, shape = KINDS[kind]
    config = dict(type='TIMMBackbone') | config
    found = probe(config, 64)
    assert found.shape == shape
    assert (found.channels, found.image_size) == (
        int(re.findall(r'\d+', shape)[-1 if kind != 'maps' else 1]),
        (64, 64),
    )
    assert found.parameters == sum(p.numel() for p in found.backbone.parameters())
    assert type(MODELS.build(found.config)) is type(found.backbone)
    monkeypatch.setattr(tool, 'find', lambda name: found)
    monkeypatch.setattr(tool, 'TIMED_STEPS', 1)
    row = tool.check(kind)
    assert 'error' not in row, row['error']
    assert row['features'] == shape
    assert row['ratio'] > 1


def test_the_probe_takes_sides_and_channels():
    vit = dict(type='TIMMBackbone', model_name='test_vit', in_channels=1)
    found = probe(vit, (32, 64))
    assert found.config == dict(vit, img_size=(32, 64))
    assert found.features.shape[1] == 1 + 2 * 4
    assert own_image_size(vit) == probe(vit).image_size[0] == 160
    assert probe(vit).config == vit
    with pytest.raises(ValueError, match='AssertionError: Custom arch needs'):
        probe(dict(type='VisionTransformer', arch=dict(TINY)), 64)


def test_the_page_is_complete_and_made_from_its_file(tool):
    stored = json.loads(PAGE.with_suffix('.json').read_text())
    page = PAGE.read_text()
    assert tool.page(page, stored['rows'], stored['measured_with']) == page
    if stored['measured_with']['mmpretrain'] != mmpretrain.__version__:
        pytest.skip('the page is about another version of MMPretrain')
    rows = {row['name'] for row in stored['rows']}
    assert rows == {*registered_backbones(), *(f'{f}: {m}' for f, m in tool.TIMM_MODELS.items())}
