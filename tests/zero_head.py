"""Checkpoints of tiny networks on 16² images, with their config inside."""

import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS

import mmebm  # noqa: F401  registers what the configs below name

SIZE = 16
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
VIT = dict(
    type='VisionTransformer',
    arch=dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32),
    img_size=SIZE,
    patch_size=4,
    out_type='avg_featmap',
    final_norm=False,
)
CONVNEXT = dict(
    type='ConvNeXt', arch=dict(depths=[1, 1, 1, 1], channels=[8, 8, 8, 16]), stem_patch_size=2
)
CORRUPTION = dict(type='GriddedMask', patch_size=4, ratio=0.5, fill=[10, 20, 30])


def save_network(path, backbone=VIT, zero=True, to_rgb=True, **options) -> None:
    """Write a checkpoint that restores; its head is zero (the start of training) or random.

    Args:
        path: the file.
        backbone: config, with 16 output channels.
        zero: whether the head is zero.
        to_rgb: of the data preprocessor.
        **options: of the algorithm.
    """
    model = dict(type='EnergyRestorationAlgorithm', backbone=backbone, **options)
    _save(path, model, zero, to_rgb, [dict(**CORRUPTION, seed=0)])


def save_sorting(path) -> None:
    """Write a checkpoint that sorts, its head random."""
    model = dict(type='EnergySortingAlgorithm', backbone=VIT, step_size=10.0, edge_widths=[1])
    _save(path, model, zero=False, to_rgb=True, corruption=[])


def _save(path, model: dict, zero: bool, to_rgb: bool, corruption: list[dict]) -> None:
    preprocessor = dict(type='SelfSupDataPreprocessor', mean=MEAN, std=STD, to_rgb=to_rgb)
    model |= dict(head=dict(type='EnergyHead', in_channels=16), data_preprocessor=preprocessor)
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='ResizeEdge', scale=SIZE, edge='short'),
        dict(type='CenterCrop', crop_size=SIZE),
        *corruption,
        dict(type='PackInputs'),
    ]
    config = Config(dict(model=model, val_dataloader=dict(dataset=dict(pipeline=pipeline))))
    torch.manual_seed(0)
    built = MODELS.build(config.model)
    built.init_weights()
    if not zero:
        torch.nn.init.normal_(built.head.fc.weight)
    torch.save(dict(meta=dict(cfg=config.pretty_text), state_dict=built.state_dict()), path)
