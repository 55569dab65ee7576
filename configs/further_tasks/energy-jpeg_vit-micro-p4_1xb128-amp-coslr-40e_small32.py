"""Traces of JPEG compression on 32² images.

DATA_ROOT=data/cifar10 python tools/train.py \
    configs/further_tasks/energy-jpeg_vit-micro-p4_1xb128-amp-coslr-40e_small32.py

Paper: no row; not one of its tasks. A run of minutes, with a smaller network, gained 0.4 dB on held-out
images (docs/corruptions.md).
"""

_base_ = '../small/energy-denoising_vit-micro-p4_1xb128-amp-coslr-40e_small32.py'

corruption = dict(type='JPEGCompression', quality_range=(5, 30))
train_dataloader = dict(
    dataset=dict(pipeline=[*_base_.train_augmentation, corruption, _base_.pack])
)
val_dataloader = dict(
    dataset=dict(pipeline=[*_base_.val_preparation, dict(**corruption, seed=0), _base_.pack])
)
test_dataloader = val_dataloader
