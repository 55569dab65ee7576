"""The network that comes with mmebm: a plain convolutional network that restores photographs.

DATA_ROOT=tiles python tools/train.py configs/network/energy-mixed_plain-convnet_1xb32-amp-coslr-51e_photos.py

No row of the paper. Twenty minutes of one busy core (AMD EPYC, Zen 4). DATA_ROOT holds train/ and held_out/: tiles
of 160 and 96 pixels, cut from 86 and 24 photographs whose short sides were resized to 320 and 160, and to 192.
Expect on held-out tiles: masks 15.8 → 23.8 dB, noise 17.5 → 23.5, super-resolution 22.4 → 23.3, colour 18.6 → 19.0.
The file in the wheel took the same steps in two parts: 1,000 iterations of a cosine over 3,500, then 800 more, with a
new optimizer, of a cosine to zero.
"""

_base_ = ['../_base_/default_runtime.py', '../_base_/schedules/adamw_bs256_100e.py']

size, epochs = 64, 51  # of 35 iterations: 1,785
mean = [123.675, 116.28, 103.53]
std = [58.395, 57.12, 57.375]

model = dict(
    type='EnergyRestorationAlgorithm',
    backbone=dict(type='PlainConvNet', dims=(48, 96, 128, 160)),
    head=dict(type='EnergyHead', in_channels=160),
    num_steps=1,  # the paper's 2 takes twice as long per iteration
    data_preprocessor=dict(type='SelfSupDataPreprocessor', mean=mean, std=std, to_rgb=True),
)

corruption = dict(
    type='MixedCorruption',
    corruptions=[
        dict(type='GriddedMask', patch_size=4, ratio=0.5),
        dict(type='GriddedMask', patch_size=8, ratio=0.3),
        dict(type='SuperResolution', scale=2),
        dict(type='SuperResolution', scale=4),
        dict(type='GaussianNoise', gamma_range=(0.5, 1.0)),
        dict(type='Colorization'),
    ],
    probs=[0.2, 0.1, 0.15, 0.15, 0.25, 0.15],
)
pack = dict(type='PackInputs', meta_keys=('sample_idx', 'img_path', 'corruption'))
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=size, crop_ratio_range=(0.16, 1.0)),
    dict(type='RandomFlip', prob=0.5),
    corruption,
    pack,
]
val_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='CenterCrop', crop_size=size),
    dict(**corruption, seed=0),
    pack,
]
data_root = '{{$DATA_ROOT:data/photos}}'
train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='ImageFolder', data_root=data_root, data_prefix='train', pipeline=train_pipeline
    ),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='ImageFolder',
        data_root=data_root,
        data_prefix='held_out',
        test_mode=True,
        pipeline=val_pipeline,
    ),
)
val_evaluator = [dict(type='RestorationMetric'), dict(type='EnergyMetric')]
val_cfg = dict()
test_dataloader = val_dataloader
test_evaluator = val_evaluator
test_cfg = dict()

# With 2e-3 it diverged after 700 iterations.
optim_wrapper = dict(
    dtype='bfloat16',
    optimizer=dict(lr=7e-4),
    clip_grad=dict(max_norm=0.3),
    paramwise_cfg=dict(custom_keys=dict(log_step_size=dict(lr_mult=5, decay_mult=0))),
)
auto_scale_lr = dict(base_batch_size=32)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=6, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        T_max=epochs - 6,
        begin=6,
        end=epochs,
        eta_min=0,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=epochs, val_interval=10)
default_hooks = dict(logger=dict(interval=10))
