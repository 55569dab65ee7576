"""Masking 50 % of the 4×4 squares of a grid, on a ResNet of 0.5 M parameters, 32² images.

DATA_ROOT=data/cifar10 python tools/train.py \
    configs/small/energy-gridded4-50_resnet-mini_1xb32-amp-coslr-40e_small32.py

Paper: no row; an arm of the comparison in docs/small_data.md. Not yet measured here.
"""

_base_ = './energy-mixed_resnet-mini_1xb32-amp-coslr-40e_small32.py'

corruption = dict(type='GriddedMask', patch_size=4, ratio=0.5)
train_dataloader = dict(
    dataset=dict(pipeline=[*_base_.train_augmentation, corruption, _base_.pack])
)
val_dataloader = dict(
    dataset=dict(pipeline=[*_base_.val_preparation, dict(**corruption, seed=0), _base_.pack])
)
test_dataloader = val_dataloader
