# The network that comes with mmebm, trained by configs/network/ (docs/restore.md).
model = dict(
    type='EnergyRestorationAlgorithm',
    backbone=dict(type='PlainConvNet', dims=(48, 96, 128, 160)),
    head=dict(type='EnergyHead', in_channels=160),
    num_steps=1,
    data_preprocessor=dict(
        type='SelfSupDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    ),
)
val_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='CenterCrop', crop_size=64),
            dict(
                type='MixedCorruption',
                corruptions=[
                    dict(type='GriddedMask', patch_size=4, ratio=0.5),
                    dict(type='SuperResolution', scale=4),
                    dict(type='GaussianNoise', gamma_range=(0.5, 1.0)),
                ],
            ),
            dict(type='PackInputs'),
        ]
    )
)
