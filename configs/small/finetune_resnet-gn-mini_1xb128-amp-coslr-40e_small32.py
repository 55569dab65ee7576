"""Finetuning the pretrained ResNet with group norm of 0.5 M parameters, 32² images, 40 epochs.

Any pretraining config of this backbone.

DATA_ROOT=data/cifar10 PRETRAINED=FILE python tools/train.py \
    configs/small/finetune_resnet-gn-mini_1xb128-amp-coslr-40e_small32.py --work-dir work_dirs/ROW/finetuning

Paper: no row; an arm of the comparison in docs/small_data.md. Not yet measured here.
"""

_base_ = './finetune_resnet-mini_1xb128-amp-coslr-40e_small32.py'

model = dict(backbone=dict(norm_cfg=dict(type='GN', num_groups=8)))
