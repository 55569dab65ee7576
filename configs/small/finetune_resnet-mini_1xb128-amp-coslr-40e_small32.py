"""Finetuning the pretrained ResNet of 0.5 M parameters, 32² images, 40 epochs.

Any pretraining config of this backbone.

DATA_ROOT=data/cifar10 PRETRAINED=FILE python tools/train.py \
    configs/small/finetune_resnet-mini_1xb128-amp-coslr-40e_small32.py --work-dir work_dirs/ROW/finetuning

Paper: no row; an arm of the comparison in docs/small_data.md. Not yet measured here.
"""

_base_ = './finetune_convnext-micro-p2_1xb128-amp-coslr-40e_small32.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=34,
        num_stages=2,
        strides=(1, 2),
        dilations=(1, 1),
        out_indices=(1,),
        stem_channels=40,
        base_channels=40,
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(in_channels=80),
)
# of two stages, MMPretrain does not tell the depth of a parameter: no layer-wise decay
optim_wrapper = dict(
    _delete_=True,
    type='MixedPrecisionOptimWrapper',
    optimizer={**_base_.optim_wrapper.optimizer, 'lr': 1e-2},  # above 3e-3 on validation images
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0),
)
