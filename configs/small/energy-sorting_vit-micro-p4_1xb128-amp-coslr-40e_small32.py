"""Patch sorting on 32² images: the small version of Table 2's row.

DATA_ROOT=data/cifar10 python tools/train.py \
    configs/small/energy-sorting_vit-micro-p4_1xb128-amp-coslr-40e_small32.py

Paper: no row; the paper trains on ImageNet at 224². Not yet measured here.
"""

_base_ = [
    '../_base_/models/energy_vit-micro-p4_32.py',
    '../_base_/datasets/small32_bs128.py',
    '../_base_/schedules/adamw_bs128_40e_small.py',
    '../_base_/default_runtime.py',
]

# Ours: the edges are one pixel wide, or not masked, because two pixels on each side would blank
# patches of 4² pixels. The step size: docs/notes.md.
model = dict(
    type='EnergySortingAlgorithm', step_size=300.0, edge_widths=(0, 1), patch_drop_ratio=0.5
)
train_dataloader = dict(dataset=dict(pipeline=[*_base_.train_augmentation, _base_.pack]))
val_dataloader = dict(dataset=dict(pipeline=[*_base_.val_preparation, _base_.pack]))
test_dataloader = val_dataloader
val_evaluator = [dict(type='SortingMetric'), dict(type='EnergyMetric')]
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(save_best='sorting/accuracy'))
