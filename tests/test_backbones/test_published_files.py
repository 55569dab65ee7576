"""Weights as people have them: where others keep them, under which names, for which image size."""

import argparse
import re

import pytest
import timm
import torch
from mmpretrain.registry import MODELS
from timm.layers import resample_abs_pos_embed, resize_rel_pos_bias_table
from torch.nn.functional import interpolate

from mmebm.backbones import load_backbone

ARCH = dict(embed_dims=64, num_layers=6, num_heads=2, feedforward_channels=192)
MMPRETRAINS = dict(type='VisionTransformer', arch=ARCH, patch_size=16)


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
    ours = MODELS.build(dict(MMPRETRAINS, img_size=160, out_type='raw'))
    ours.eval()
    assert load_backbone(ours, tmp_path / 'theirs.pth').share == 1
    images = torch.randn(1, 3, 160, 160)
    with torch.no_grad():
        expected = backbone.timm_model.eval()(images)
        torch.testing.assert_close(ours(images)[-1], expected, atol=1e-5, rtol=1e-5)


def test_positions_of_dinov2(tmp_path):
    """37 × 37 and a class token, in a file with DINOv2's own names; for images of 70 × 98."""
    options = dict(embed_dim=32, depth=1, num_heads=2)
    name = 'vit_small_patch14_dinov2'
    state = timm.create_model(name, num_classes=0, **options).state_dict()
    state = {key: torch.randn_like(tensor) for key, tensor in state.items()}
    assert state['pos_embed'].shape == (1, 1370, 32)
    torch.save(state | dict(mask_token=torch.zeros(1, 32)), tmp_path / 'a.pth')
    backbone, fit = filled(tmp_path / 'a.pth', name, img_size=(70, 98), **options)
    expected = resample_abs_pos_embed(state['pos_embed'], [5, 7], num_prefix_tokens=1)
    assert torch.equal(backbone.timm_model.pos_embed, expected)
    assert fit.share == 1
    assert '1 resized: timm_model.pos_embed' in str(fit)
    arch = dict(embed_dims=32, num_layers=1, num_heads=2, feedforward_channels=128)
    size = dict(patch_size=14, img_size=(70, 98), layer_scale_init_value=1.0)
    ours = MODELS.build(dict(MMPRETRAINS, arch=arch, **size))
    fit = load_backbone(ours, tmp_path / 'a.pth')
    assert fit.share == 1
    assert torch.equal(ours.layers[0].attn.gamma1.weight, state['blocks.0.ls1.gamma'])
    patches = state['pos_embed'][:, 1:].reshape(1, 37, 37, 32).permute(0, 3, 1, 2)
    patches = interpolate(patches, (5, 7), mode='bicubic').flatten(2).mT
    assert fit.resized == ['pos_embed']
    torch.testing.assert_close(ours.pos_embed[:, 1:], patches)


def test_relative_positions_of_swin(tmp_path):
    name = 'swin_tiny_patch4_window7_224'
    options = dict(embed_dim=8, depths=[1, 1], num_heads=[1, 2])
    state = timm.create_model(
        name, num_classes=0, img_size=64, window_size=4, **options
    ).state_dict()
    state = {key: torch.randn_like(tensor) for key, tensor in state.items()}
    torch.save(dict(model=state), tmp_path / 'a.pth')
    backbone, fit = filled(tmp_path / 'a.pth', name, img_size=128, window_size=8, **options)
    assert fit.share == 1
    assert len(fit.resized) == 2
    for key, tensor in state.items():
        if key.endswith('relative_position_bias_table'):
            expected = resize_rel_pos_bias_table(tensor, (8, 8), (225, tensor.shape[1]))
            assert torch.equal(backbone.timm_model.state_dict()[key], expected)


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
