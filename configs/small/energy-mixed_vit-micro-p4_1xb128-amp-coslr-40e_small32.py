"""One of masking, super-resolution, denoising and colorization per image, on 32² images: the small
twin of Table 3's rows.

DATA_ROOT=data/cifar10 python tools/train.py \
    configs/small/energy-mixed_vit-micro-p4_1xb128-amp-coslr-40e_small32.py

Paper: no row; the paper trains on ImageNet at 224². Not yet measured here.
"""

_base_ = './energy-denoising_vit-micro-p4_1xb128-amp-coslr-40e_small32.py'

# Ours: the masks and the scale that the small twins of the single tasks have.
corruption = dict(
    type='MixedCorruption',
    corruptions=[
        dict(type='GriddedMask', patch_size=4, ratio=0.5),
        dict(type='SuperResolution', scale=4),
        dict(type='GaussianNoise', gamma_range=(0.0, 1.0)),
        dict(type='Colorization'),
    ],
)
train_dataloader = dict(
    dataset=dict(pipeline=[*_base_.train_augmentation, corruption, _base_.pack])
)
val_dataloader = dict(
    dataset=dict(pipeline=[*_base_.val_preparation, dict(**corruption, seed=0), _base_.pack])
)
test_dataloader = val_dataloader
