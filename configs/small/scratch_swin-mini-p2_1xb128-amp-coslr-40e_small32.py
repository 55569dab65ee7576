"""The Swin of 0.5 M parameters from scratch on 32² images: the finetuning recipe without a checkpoint, 40 epochs.

DATA_ROOT=data/cifar10 python tools/train.py \
    configs/small/scratch_swin-mini-p2_1xb128-amp-coslr-40e_small32.py

Paper: no row; an arm of the comparison in docs/small_data.md. Not yet measured here.
"""

_base_ = './scratch_swin-micro-p2_1xb128-amp-coslr-40e_small32.py'

model = dict(
    backbone=dict(arch=dict(embed_dims=32, depths=[2, 2, 2], num_heads=[1, 2, 4])),
    head=dict(in_channels=128),
)
