"""Checkpoints of each pretraining method, as its runs write them, on small networks."""

from pathlib import Path

import torch
from mmpretrain.registry import MODELS

import mmebm  # noqa: F401  registers what the configs below name
from tests.zero_head import CONVNEXT, VIT

ARCH = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
DECODER = dict(embed_dim=16, decoder_embed_dim=8, decoder_depth=1, decoder_num_heads=2)
L2 = dict(type='PixelReconstructionLoss', criterion='L2')
METHODS = ('energy', 'mae', 'beit', 'bare')
# like CONVNEXT with 16 output channels, for images of 32²
SWIN = dict(
    type='SwinTransformer',
    arch=dict(embed_dims=4, depths=[2, 1, 2], num_heads=[1, 1, 1]),
    img_size=32,
    patch_size=2,
    window_size=4,
    out_indices=(2,),
)


def pretraining_config(method: str, arch=ARCH, img_size: int = 32, patch_size: int = 8) -> dict:
    """A pretraining model."""
    size = dict(arch=arch, img_size=img_size, patch_size=patch_size)
    dims = arch['embed_dims']
    decoder = DECODER | dict(embed_dim=dims)
    configs = {
        'energy': dict(
            type='EnergyRestorationAlgorithm',
            backbone=VIT | size,
            head=dict(type='EnergyHead', in_channels=dims),
        ),
        'mae': dict(
            type='MAE',
            backbone=dict(type='MAEViT', mask_ratio=0.5, **size),
            neck=dict(
                type='MAEPretrainDecoder',
                num_patches=(img_size // patch_size) ** 2,
                patch_size=patch_size,
                **decoder,
            ),
            head=dict(type='MAEPretrainHead', patch_size=patch_size, loss=L2),
        ),
        'beit': dict(
            type='BEiT',
            backbone=dict(type='BEiTPretrainViT', **size),
            head=dict(
                type='BEiTV1Head',
                embed_dims=dims,
                num_embed=8,
                loss=dict(type='CrossEntropyLoss'),
            ),
        ),
    }
    energy = dict(configs['energy'], head=dict(type='EnergyHead', in_channels=16))
    configs['energy of ConvNeXt'] = dict(energy, backbone=CONVNEXT)
    configs['energy of Swin'] = dict(energy, backbone=dict(**SWIN, drop_path_rate=0.0))
    return configs['energy' if method == 'bare' else method]


def built(config: dict) -> torch.nn.Module:
    """A model with random weights, none of them zero."""
    torch.manual_seed(1)
    model = MODELS.build(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.5, 0.1)
    return model


def build_pretraining(method: str, **size):
    model = built(pretraining_config(method, **size))
    return model.backbone if method == 'bare' else model


def save_pretrained(method: str, path: Path, **size) -> dict[str, torch.Tensor]:
    """Write a checkpoint; return the tensors of its backbone."""
    model = build_pretraining(method, **size)
    state = model.state_dict()
    if method == 'bare':
        torch.save(state, path)
        return state
    torch.save(dict(meta=dict(epoch=1), state_dict=state), path)
    return model.backbone.state_dict()


def finetuning_config(method: str, img_size: int = 32, arch=ARCH) -> dict:
    """The backbone that a finetuning config has for a method."""
    kind = 'BEiTViT' if method == 'beit' else 'VisionTransformer'
    return dict(VIT, type=kind, arch=arch, img_size=img_size, patch_size=8)


def build_finetuning(method: str, **size) -> torch.nn.Module:
    """The backbone of :func:`finetuning_config`."""
    return MODELS.build(finetuning_config(method, **size))


# a classifier of two classes on that backbone
CLASSIFIER = dict(
    type='ImageClassifier',
    backbone=finetuning_config('energy'),
    head=dict(type='LinearClsHead', num_classes=2, in_channels=ARCH['embed_dims']),
)


def expected_start(method: str, pretrained: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors that finetuning must start from, by name: all that both networks have."""
    expected = {
        name: value
        for name, value in pretrained.items()
        if value.is_floating_point() and not name.startswith(('ln1.', 'mask_token', 'rel_pos_bias'))
    }
    if method == 'beit':  # a bias for all layers in pretraining, one for each in finetuning
        shared = pretrained['rel_pos_bias.relative_position_bias_table']
        layers = {name.split('.')[1] for name in pretrained if name.startswith('layers.')}
        for layer in layers:
            expected[f'layers.{layer}.attn.relative_position_bias_table'] = shared
    return expected
