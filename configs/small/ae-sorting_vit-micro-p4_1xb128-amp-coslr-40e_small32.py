"""An auto-encoder that predicts the position of each patch of 32² images: the small version of Table 2's
row.

DATA_ROOT=data/cifar10 python tools/train.py \
    configs/small/ae-sorting_vit-micro-p4_1xb128-amp-coslr-40e_small32.py

Paper: no row; the paper trains on ImageNet at 224². Not yet measured here.
"""

_base_ = [
    '../_base_/models/ae-sorting_vit-micro-p4_32.py',
    '../_base_/datasets/small32_bs128.py',
    '../_base_/schedules/adamw_bs128_40e_small.py',
    '../_base_/baseline_runtime.py',
]
train_dataloader = dict(dataset=dict(pipeline=[*_base_.train_augmentation, _base_.pack]))
val_dataloader = dict(dataset=dict(pipeline=[*_base_.val_preparation, _base_.pack]))
test_dataloader = val_dataloader
val_evaluator = [dict(type='SortingMetric')]
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(save_best='sorting/accuracy'))
