"""One of masking, super-resolution, denoising and colorization per image, on a ResNet of 0.5 M parameters, 32² images.

DATA_ROOT=data/cifar10 python tools/train.py \
    configs/small/energy-mixed_resnet-mini_1xb32-amp-coslr-40e_small32.py

Paper: no row; an arm of the comparison in docs/small_data.md. Not yet measured here.
"""

_base_ = './energy-mixed_convnext-micro-p2_1xb128-amp-coslr-40e_small32.py'

model = dict(
    num_steps=1,
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=34,
        num_stages=2,
        strides=(1, 2),
        dilations=(1, 1),
        out_indices=(1,),
        stem_channels=40,
        base_channels=40,
    ),
    head=dict(in_channels=80),
)
train_dataloader = dict(batch_size=32)
optim_wrapper = dict(optimizer=dict(lr=2e-3 * 32 / 32))
auto_scale_lr = dict(base_batch_size=32)
