"""Weights as people have them: where others keep them, under which names, for which image size."""

import argparse
import re

import pytest
import timm
import torch
from mmpretrain.registry import MODELS
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed

from mmebm.backbones import GroupNormBackbone, load_backbone


@pytest.fixture
def vit():
    torch.manual_seed(1)
    return timm.create_model('test_vit', num_classes=0).state_dict()


def named(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


def filled(path, name='test_vit', **options):
    backbone = MODELS.build(dict(type='TIMMBackbone', model_name=name, **options))
    return backbone, load_backbone(backbone, path)


def decoder():
    return {
        name: torch.zeros(3)
        for name in ('mask_token', 'decoder_embed.weight', 'decoder_blocks.0.norm1.weight')
    }


@pytest.mark.parametrize(
    ('wrap', 'left_out'),
    [
        (lambda s: dict(model=s | decoder()), 'decoder_embed.weight'),  # MAE
        (lambda s: dict(model=s | {'head.weight': torch.zeros(3)}), 'head.weight'),  # DeiT
        (
            lambda s: dict(  # DINO
                student={k: v + 1 for k, v in named('module.backbone.', s).items()},
                teacher=named('backbone.', s) | {'head.mlp.weight': torch.zeros(3)},
                args=argparse.Namespace(arch='vit'),
            ),
            '',
        ),
        (lambda s: dict(state_dict=named('model.encoder.', s)), ''),
        (lambda s: dict(state_dict=named('module.backbone.', s)), ''),
        (lambda s: dict(state_dict=named('teacher.', s) | named('student.', s)), 'student.'),
        (
            lambda s: dict(
                state_dict=named('backbone.timm_model.', s) | {'head.fc.weight': torch.zeros(3)}
            ),
            '',
        ),
        (lambda s: s, ''),
    ],
)
def test_weights_are_found_where_others_keep_them(vit, tmp_path, wrap, left_out):
    torch.save(wrap(vit), tmp_path / 'theirs.pth')
    backbone, fit = filled(tmp_path / 'theirs.pth')
    assert fit.share == 1
    for name, tensor in backbone.timm_model.state_dict().items():
        assert torch.equal(tensor, vit[name]), name
    assert left_out in str(fit)
    assert bool(fit.unused) == bool(left_out)


def test_position_embeddings_are_resized(vit, tmp_path):
    save_file(vit, tmp_path / 'a.safetensors')
    backbone, fit = filled(tmp_path / 'a.safetensors', img_size=96)
    expected = resample_abs_pos_embed(vit['pos_embed'], [6, 6], num_prefix_tokens=1)
    assert torch.equal(backbone.timm_model.pos_embed, expected)
    assert fit.resized == ['timm_model.pos_embed']
    assert '1 resized: timm_model.pos_embed' in str(fit)


def test_convnext_under_its_first_names(tmp_path):
    torch.manual_seed(1)
    state = timm.create_model('test_convnext', num_classes=0, global_pool='').state_dict()
    theirs = {}
    for name, tensor in state.items():
        for ours, first in (
            ('conv_dw', 'dwconv'), (r'mlp\.fc', 'pwconv'), (r'\.blocks\.', '.'),
            (r'^stem\.', 'downsample_layers.0.'), (r'head\.norm', 'norm'),
            (r'stages\.(\d)\.downsample', r'downsample_layers.\1'),
        ):  # fmt: skip
            name = re.sub(ours, first, name)
        theirs[name] = tensor
    assert not theirs.keys() & state.keys()
    torch.save(dict(model=theirs), tmp_path / 'a.pth')
    backbone, fit = filled(tmp_path / 'a.pth', 'test_convnext')
    assert fit.share == 1
    for name, tensor in backbone.timm_model.state_dict().items():
        assert torch.equal(tensor, state[name]), name


def test_group_norms_need_no_statistics(tmp_path):
    torch.manual_seed(1)
    state = timm.create_model('test_resnet', num_classes=0).state_dict()
    torch.save(state, tmp_path / 'a.pth')
    backbone = GroupNormBackbone(dict(type='TIMMBackbone', model_name='test_resnet'))
    fit = load_backbone(backbone, tmp_path / 'a.pth')
    assert fit.share == 1
    assert all(name.split('.')[-1].startswith(('running', 'num')) for name in fit.unused)
    assert torch.equal(backbone.timm_model.conv1[0].weight, state['conv1.0.weight'])
