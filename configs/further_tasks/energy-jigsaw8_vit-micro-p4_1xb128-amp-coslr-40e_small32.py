"""Jigsaw of 16 cells, restored in pixels, on 32² images.

DATA_ROOT=data/cifar10 python tools/train.py \
    configs/further_tasks/energy-jigsaw8_vit-micro-p4_1xb128-amp-coslr-40e_small32.py

Paper: no row; not one of its tasks. A run of minutes, with a smaller network, gained 3.4 dB on held-out
images (docs/corruptions.md).
"""

_base_ = '../small/energy-denoising_vit-micro-p4_1xb128-amp-coslr-40e_small32.py'

corruption = dict(type='Shuffle', patch_size=8)
train_dataloader = dict(
    dataset=dict(pipeline=[*_base_.train_augmentation, corruption, _base_.pack])
)
val_dataloader = dict(
    dataset=dict(pipeline=[*_base_.val_preparation, dict(**corruption, seed=0), _base_.pack])
)
test_dataloader = val_dataloader
