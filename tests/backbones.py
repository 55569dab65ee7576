"""Small backbones of each kind of feature, shared by the tests."""

import torch
from mmpretrain.registry import MODELS

from tests import zero_head

ARCH = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
VIT = dict(zero_head.VIT, arch=ARCH, img_size=32, patch_size=8)
# name → (config, channels)
BACKBONES = {
    'ViT': (VIT, 32),
    'ConvNeXt': (
        dict(type='ConvNeXt', arch=dict(depths=[1, 1, 1, 1], channels=[8, 16, 16, 32])),
        32,
    ),
    'Swin': (
        dict(
            type='SwinTransformer',
            arch=dict(embed_dims=8, depths=[1, 2, 1, 1], num_heads=[1, 2, 2, 4]),
            img_size=32,
            window_size=2,
            pad_small_map=True,
            drop_path_rate=0.0,
        ),
        64,
    ),
    'ResNet': (
        dict(type='ResNet', depth=18, base_channels=8, stem_channels=8, norm_eval=True),
        64,
    ),
    'timm ViT': (
        dict(
            type='TIMMBackbone',
            model_name='vit_tiny_patch16_224',
            img_size=32,
            patch_size=8,
            depth=2,
            embed_dim=32,
            num_heads=2,
        ),
        32,
    ),
}
NORMALISATION = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)


def build_algorithm(name='ViT', head_std=0.5, **options):
    """An algorithm on a small backbone, with a head that is not zero unless ``head_std`` is."""
    backbone, channels = BACKBONES[name]
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='EnergyRestorationAlgorithm',
            backbone=backbone,
            head=dict(type='EnergyHead', in_channels=channels),
            data_preprocessor=NORMALISATION,
        )
        | options
    )
    model.init_weights()
    torch.nn.init.normal_(model.head.fc.weight, std=head_std)
    return model


def vit_energy(model, x, embedding, kept):
    """The energy ``(B,)`` of a ViT that sees the kept patches ``(B, K)``, by its layers alone.

    ``embedding`` is that of all tokens, ``(1 or B, 1 + L, D)``. MMPretrain's ViT averages the
    patches and normalises once; of timm's, without its classifier, the head averages all tokens.
    """
    is_timms = hasattr(model.backbone, 'timm_model')
    vit = model.backbone.timm_model if is_timms else model.backbone
    project, layers, norm = (
        (vit.patch_embed.proj, vit.blocks, vit.norm)
        if is_timms
        else (vit.patch_embed.projection, vit.layers, vit.ln2)
    )
    patches = project(x).flatten(2).mT + embedding[:, 1:]
    patches = torch.stack([p[k] for p, k in zip(patches, kept, strict=True)])
    first = (vit.cls_token + embedding[:, :1]).expand(len(x), -1, -1)
    tokens = torch.cat([first, patches], 1)
    for layer in layers:
        tokens = layer(tokens)
    features = norm(tokens).mean(1) if is_timms else norm(tokens[:, 1:].mean(1))
    return features @ model.head.fc.weight[0]
