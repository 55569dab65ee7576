"""Learning rates and weight decays of named parameters, of models that are not classifiers."""

import pytest
import timm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from timm.optim import param_groups_layer_decay
from torch import nn

import mmebm  # noqa: F401

LR, RATE = 2e-3, 0.5
ARCH = dict(embed_dims=8, num_layers=3, num_heads=2, feedforward_channels=16)
VIT = dict(type='VisionTransformer', arch=ARCH, img_size=16, layer_scale_init_value=0.1)
# By name: how many halvings of the learning rate, and whether its weight decays. This ViT has
# depths 0 (embedding) to 4 (what comes after).
EXPECTED = {
    'backbone.cls_token': (4, False),
    'backbone.patch_embed.projection.weight': (4, True),
    'backbone.layers.0.ln1.weight': (3, False),
    'backbone.layers.0.attn.qkv.weight': (3, True),
    'backbone.layers.2.ffn.layers.1.weight': (1, True),
    'backbone.ln1.weight': (0, False),
    'neck.weight': (0, True),
    'decode_head.conv.weight': (0, True),
    'decode_head.conv.bias': (0, False),
    'decode_head.bn.weight': (0, False),
}


class Segmentor(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = MODELS.build(VIT)
        self.neck = nn.Conv2d(8, 8, 1, bias=False)
        self.decode_head = nn.ModuleDict(dict(conv=nn.Conv2d(8, 8, 1), bn=nn.BatchNorm2d(8)))


def build(model, optimizer=(), **paramwise_cfg):
    tokens = ('pos_embed', 'cls_token', 'relative_position_bias_table')
    config = dict(
        type='OptimWrapper',
        constructor='mmpretrain.LayerDecayOptimWrapperConstructor',
        optimizer=dict(optimizer or dict(type='AdamW', lr=LR, weight_decay=0.05)),
        paramwise_cfg=dict(
            layer_decay_rate=RATE,
            norm_decay_mult=0.0,
            bias_decay_mult=0.0,
            flat_decay_mult=0.0,
            custom_keys={token: dict(decay_mult=0.0) for token in tokens},
        )
        | paramwise_cfg,
    )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return build_optim_wrapper(model, config)


@pytest.mark.parametrize('name', ['test_vit', 'test_convnext', 'resnet10t'])
def test_depths_of_timm(name):
    """As timm's own decay has them for the same network with a classifier."""
    network = timm.create_model(name)
    groups = param_groups_layer_decay(network, layer_decay=RATE)
    scales = {id(p): group['lr_scale'] for group in groups for p in group['params']}
    expected = {n: scales[id(p)] for n, p in network.named_parameters()}
    model = Segmentor()
    model.backbone = MODELS.build(dict(type='TIMMBackbone', model_name=name))
    found = {g['param_name']: g['lr_scale'] for g in build(model).optimizer.param_groups}
    prefix = 'backbone.timm_model.'
    inside = {n.removeprefix(prefix): x for n, x in found.items() if n.startswith(prefix)}
    assert inside == {n: pytest.approx(expected[n]) for n in inside}
    assert len(inside) > 20
    assert len(set(inside.values())) > 4
    assert {x for n, x in found.items() if not n.startswith('backbone.')} == {1.0}


def test_literal_parameters():
    model = Segmentor()
    groups = {g['param_name']: g for g in build(model).optimizer.param_groups}
    for parameter, (halvings, decays) in EXPECTED.items():
        group = groups[parameter]
        assert group['lr'] == pytest.approx(LR * RATE**halvings), parameter
        assert group['lr_scale'] == pytest.approx(RATE**halvings), parameter
        assert group['weight_decay'] == (0.05 if decays else 0), parameter
        assert group['params'] == [model.get_parameter(parameter)]
    assert groups.keys() == dict(model.named_parameters()).keys()


def test_a_backbone_that_does_not_tell_depths():
    model = Segmentor()
    model.backbone = nn.Conv2d(3, 8, 1)
    with pytest.raises(ValueError, match='Conv2d of Segmentor has no get_layer_depth'):
        build(model)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(decay_rate=0.9, num_layers=12), r"got \['decay_rate', 'num_layers'\]"),
        (dict(custom_keys=dict(neck=dict(lr_mult=0.1))), r"got \['custom_keys\.neck\.lr_mult'\]"),
        (dict(layer_decay_rate=0), 'layer_decay_rate must'),
        (dict(layer_decay_rate=1.5), 'layer_decay_rate must'),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(ValueError, match=message):
        build(Segmentor(), **options)
