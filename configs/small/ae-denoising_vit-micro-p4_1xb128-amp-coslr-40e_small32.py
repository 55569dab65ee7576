"""An auto-encoder that removes noise from 32² images: the small version of Table 2's row.

DATA_ROOT=data/cifar10 python tools/train.py \
    configs/small/ae-denoising_vit-micro-p4_1xb128-amp-coslr-40e_small32.py

Paper: no row; the paper trains on ImageNet at 224². Not yet measured here.
"""

_base_ = [
    '../_base_/models/ae_vit-micro-p4_32.py',
    '../_base_/datasets/small32_bs128.py',
    '../_base_/schedules/adamw_bs128_40e_small.py',
    '../_base_/baseline_runtime.py',
]
default_hooks = dict(position_embedding=dict(type='SinCosPositionEmbeddingHook'))
val_evaluator = [dict(type='RestorationMetric')]  # there is no energy
test_evaluator = val_evaluator

corruption = dict(type='GaussianNoise', gamma_range=(0.0, 1.0))
train_dataloader = dict(
    dataset=dict(pipeline=[*_base_.train_augmentation, corruption, _base_.pack])
)
val_dataloader = dict(
    dataset=dict(pipeline=[*_base_.val_preparation, dict(**corruption, seed=0), _base_.pack])
)
test_dataloader = val_dataloader
