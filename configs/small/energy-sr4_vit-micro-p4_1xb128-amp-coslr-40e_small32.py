"""Super-resolution 4× on 32² images: the small version of Table 2's SR rows.

DATA_ROOT=data/cifar10 python tools/train.py \
    configs/small/energy-sr4_vit-micro-p4_1xb128-amp-coslr-40e_small32.py

Paper: no row; the paper trains on ImageNet at 224². Not yet measured here.
"""

_base_ = './energy-denoising_vit-micro-p4_1xb128-amp-coslr-40e_small32.py'

corruption = dict(type='SuperResolution', scale=4)
train_dataloader = dict(
    dataset=dict(pipeline=[*_base_.train_augmentation, corruption, _base_.pack])
)
val_dataloader = dict(
    dataset=dict(pipeline=[*_base_.val_preparation, dict(**corruption, seed=0), _base_.pack])
)
test_dataloader = val_dataloader
