# MMPretrain's Barlow Twins on 32² images; a config adds the backbone and the neck's in_channels.
_base_ = [
    '../datasets/small32_bs128.py',
    '../schedules/adamw_bs128_40e_small.py',
    '../bundled_runtime.py',
]

model = dict(
    type='BarlowTwins',
    neck=dict(
        type='NonLinearNeck',
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
