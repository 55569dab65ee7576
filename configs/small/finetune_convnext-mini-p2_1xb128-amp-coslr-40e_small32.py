"""Finetuning the pretrained ConvNeXt of 0.5 M parameters, 32² images, 40 epochs.

Any pretraining config of this backbone.

DATA_ROOT=data/cifar10 PRETRAINED=FILE python tools/train.py \
    configs/small/finetune_convnext-mini-p2_1xb128-amp-coslr-40e_small32.py --work-dir work_dirs/ROW/finetuning

Paper: no row; an arm of the comparison in docs/small_data.md. Not yet measured here.
"""

_base_ = './finetune_convnext-micro-p2_1xb128-amp-coslr-40e_small32.py'

model = dict(
    backbone=dict(arch=dict(depths=[2, 2, 3], channels=[32, 64, 128]), out_indices=(2,)),
    head=dict(in_channels=128),
)
# above 1e-3 and 3e-3 on validation images
optim_wrapper = dict(optimizer=dict(lr=1e-2), paramwise_cfg=dict(layer_decay_rate=1.0))
