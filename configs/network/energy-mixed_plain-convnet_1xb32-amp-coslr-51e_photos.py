"""The network that comes with mmebm: a plain convolutional network that restores photographs.

DATA_ROOT=tiles python tools/train.py configs/network/energy-mixed_plain-convnet_1xb32-amp-coslr-51e_photos.py

No row of the paper. Twenty minutes of one busy core (AMD EPYC, Zen 4). DATA_ROOT holds train/ and held_out/: tiles
of 160 and 96 pixels, cut from 86 and 24 photographs whose short sides were resized to 320 and 160, and to 192.
Expect on held-out tiles: masks 15.8 → 23.8 dB, noise 17.5 → 23.5, super-resolution 22.4 → 23.3, colour 18.6 → 19.0.
The file in the wheel took the same steps in two parts: 1,000 iterations of a cosine over 3,500, then 800 more, with a
new optimizer, of a cosine to zero.
"""

_base_ = '../quickstart/energy-mixed_vit-nano-p6_1xb32-coslr-10e_photos.py'

size, epochs = 64, 51  # of 35 iterations: 1,785
model = dict(
    backbone=dict(_delete_=True, type='PlainConvNet', dims=(48, 96, 128, 160)),
    head=dict(in_channels=160),
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
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=size, crop_ratio_range=(0.16, 1.0)),
    dict(type='RandomFlip', prob=0.5),
    corruption,
    _base_.pack,
]
val_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='CenterCrop', crop_size=size),
    dict(**corruption, seed=0),
    _base_.pack,
]
data_root = '{{$DATA_ROOT:data/photos}}'
train_dataloader = dict(dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root=data_root, pipeline=val_pipeline),
)
test_dataloader = val_dataloader

# With 2e-3 it diverged after 700 iterations.
optim_wrapper = dict(
    type='MixedPrecisionOptimWrapper',
    dtype='bfloat16',
    optimizer=dict(lr=7e-4),
    paramwise_cfg=dict(custom_keys=dict(log_step_size=dict(lr_mult=5, decay_mult=0))),
)
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
auto_scale_lr = dict(base_batch_size=32)
custom_hooks = _base_.custom_hooks[:-1]  # without position embeddings
