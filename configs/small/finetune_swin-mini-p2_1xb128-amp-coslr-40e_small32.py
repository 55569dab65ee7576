"""Finetuning the pretrained Swin of 0.5 M parameters, 32² images, 40 epochs.

Any pretraining config of this backbone.

DATA_ROOT=data/cifar10 PRETRAINED=FILE python tools/train.py \
    configs/small/finetune_swin-mini-p2_1xb128-amp-coslr-40e_small32.py --work-dir work_dirs/ROW/finetuning

Paper: no row; an arm of the comparison in docs/small_data.md. Not yet measured here.
"""

_base_ = './finetune_swin-micro-p2_1xb128-amp-coslr-40e_small32.py'

model = dict(
    backbone=dict(arch=dict(embed_dims=32, depths=[2, 2, 2], num_heads=[1, 2, 4])),
    head=dict(in_channels=128),
)
