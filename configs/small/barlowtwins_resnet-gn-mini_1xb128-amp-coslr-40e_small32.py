"""MMPretrain's Barlow Twins on 32² images, on the ResNet with group norm of 0.5 M parameters.

Ours: a projector of 512, AdamW and the schedule of all methods; batches of 128, since it compares the images of
a batch; views without blur, as usual at 32².

DATA_ROOT=data/cifar10 python tools/train.py \
    configs/small/barlowtwins_resnet-gn-mini_1xb128-amp-coslr-40e_small32.py

Paper: no row; an arm of the comparison in docs/small_data.md. Not yet measured here.
"""

_base_ = [
    '../_base_/datasets/small32_bs128.py',
    '../_base_/schedules/adamw_bs128_40e_small.py',
    '../_base_/bundled_runtime.py',
]
model = dict(
    type='BarlowTwins',
    backbone=dict(
        type='ResNet',
        depth=34,
        num_stages=2,
        strides=(1, 2),
        dilations=(1, 1),
        out_indices=(1,),
        stem_channels=40,
        base_channels=40,
        norm_cfg=dict(type='GN', num_groups=8),
    ),
    neck=dict(
        type='NonLinearNeck',
        in_channels=80,
        hid_channels=512,
        out_channels=512,
        num_layers=3,
        with_last_bn=False,
        with_last_bn_affine=False,
        with_avg_pool=True,
        init_cfg=dict(type='Kaiming', distribution='uniform', layer=['Linear']),
    ),
    head=dict(
        type='LatentCrossCorrelationHead',
        in_channels=512,
        loss=dict(type='CrossCorrelationLoss'),
    ),
    data_preprocessor=dict(
        type='SelfSupDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    ),
)
view = [
    dict(type='RandomResizedCrop', scale=32, crop_ratio_range=(0.2, 1.0)),
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='RandomApply',
        transforms=[
            dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
        ],
        prob=0.8,
    ),
    dict(
        type='RandomGrayscale',
        prob=0.2,
        keep_channels=True,
        channel_weights=(0.114, 0.587, 0.2989),
    ),
]
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='MultiView', num_views=[2], transforms=[view]),
    _base_.pack,
]
train_dataloader = dict(dataset=dict(pipeline=pipeline))
val_dataloader = val_evaluator = val_cfg = None  # MMPretrain's Barlow Twins has no validation
test_dataloader = test_evaluator = test_cfg = None
