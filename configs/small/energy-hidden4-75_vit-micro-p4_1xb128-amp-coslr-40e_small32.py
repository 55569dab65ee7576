"""Masking 75 % of the 4×4 squares of a grid on 32² images; intact patches do not see masked ones.

DATA_ROOT=data/cifar10 python tools/train.py \
    configs/small/energy-hidden4-75_vit-micro-p4_1xb128-amp-coslr-40e_small32.py

Paper: no row, this is ours; see docs/small_data.md. Of the 48 masked patches of an image, an
iteration takes 16. Not yet measured here at this length.
"""

_base_ = './energy-gridded4-50_vit-micro-p4_1xb128-amp-coslr-40e_small32.py'

model = dict(hide_corrupted=True, patch_drop_ratio=0.5)
corruption = dict(type='GriddedMask', patch_size=4, ratio=0.75)
train_dataloader = dict(
    dataset=dict(pipeline=[*_base_.train_augmentation, corruption, _base_.pack])
)
val_dataloader = dict(
    dataset=dict(pipeline=[*_base_.val_preparation, dict(**corruption, seed=0), _base_.pack])
)
test_dataloader = val_dataloader
