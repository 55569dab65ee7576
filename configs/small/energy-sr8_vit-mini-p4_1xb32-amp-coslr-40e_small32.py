"""Super-resolution 8× of 32² images, with the ViT of 0.5 M parameters.

DATA_ROOT=data/cifar10 python tools/train.py \
    configs/small/energy-sr8_vit-mini-p4_1xb32-amp-coslr-40e_small32.py

Paper: no row; an arm of the comparison in docs/small_data.md. Not yet measured here.
"""

_base_ = './energy-denoising_vit-mini-p4_1xb32-amp-coslr-40e_small32.py'

corruption = dict(type='SuperResolution', scale=8)
train_dataloader = dict(
    batch_size=32,
    dataset=dict(pipeline=[*_base_.train_augmentation, corruption, _base_.pack]),
)
val_dataloader = dict(
    dataset=dict(pipeline=[*_base_.val_preparation, dict(**corruption, seed=0), _base_.pack])
)
test_dataloader = val_dataloader
