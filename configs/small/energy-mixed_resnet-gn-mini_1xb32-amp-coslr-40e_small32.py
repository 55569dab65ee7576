"""One of masking, super-resolution, denoising and colorization per image, on a ResNet with group norm of 0.5 M parameters, 32² images.

DATA_ROOT=data/cifar10 python tools/train.py \
    configs/small/energy-mixed_resnet-gn-mini_1xb32-amp-coslr-40e_small32.py

Paper: no row; an arm of the comparison in docs/small_data.md: after 6 epochs linear probe 35.3 %, finetuned 55.7 %.
"""

_base_ = './energy-mixed_resnet-mini_1xb32-amp-coslr-40e_small32.py'

model = dict(backbone=dict(norm_cfg=dict(type='GN', num_groups=8)))
