"""One of masking, super-resolution, denoising and colorization per image, on 32² images: the small
version of Table 3's rows.

DATA_ROOT=data/cifar10 python tools/train.py \
    configs/small/energy-mixed_vit-micro-p4_1xb128-amp-coslr-40e_small32.py

Paper: no row; the paper trains on ImageNet at 224². Not yet measured here.
"""

_base_ = [
    '../_base_/models/energy_vit-micro-p4_32.py',
    '../_base_/datasets/small32_bs128_mixed.py',
    '../_base_/schedules/adamw_bs128_40e_small.py',
    '../_base_/default_runtime.py',
]
default_hooks = dict(position_embedding=dict(type='SinCosPositionEmbeddingHook'))
