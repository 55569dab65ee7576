"""A very small ViT on 48² crops, all corruptions mixed: minutes on two CPU cores.

make quickstart                      # or: python tools/quickstart.py [--data FOLDER]

No row of the paper: a first look. Expect on held-out crops, after 4:50 minutes of training on two cores
of an AMD EPYC: masking 13.2 → 20.2 dB, noise 14.3 → 20.6, colour 16.9 → 21.1, super-resolution
20.44 → 20.47 (with seed 1: 20.50). Super-resolution is slow: alone it gains 0.5 dB within
200 iterations, in the mixture it gets worse for the first 1,000.
"""

_base_ = ['../_base_/default_runtime.py', '../_base_/schedules/adamw_bs256_100e.py']

samples_per_epoch = 32 * 160  # tools/quickstart.py repeats the tiles to fill an epoch
size = 48
epochs = 10
mean = [123.675, 116.28, 103.53]
std = [58.395, 57.12, 57.375]

model = dict(
    type='EnergyRestorationAlgorithm',
    backbone=dict(
        type='VisionTransformer',
        arch=dict(embed_dims=128, num_layers=2, num_heads=4, feedforward_channels=512),
        img_size=size,
        patch_size=6,
        out_type='avg_featmap',
        final_norm=False,
    ),
    head=dict(type='EnergyHead', in_channels=128),
    num_steps=1,  # the paper's 2 takes twice as long per iteration
    data_preprocessor=dict(type='SelfSupDataPreprocessor', mean=mean, std=std, to_rgb=True),
)

corruption = dict(
    type='MixedCorruption',
    corruptions=[
        dict(type='GriddedMask', patch_size=6, ratio=0.5),
        dict(type='SuperResolution', scale=8),
        dict(type='GaussianNoise', gamma_range=(0.0, 1.0)),
        dict(type='Colorization'),
    ],
)
pack = dict(type='PackInputs', meta_keys=('sample_idx', 'img_path', 'corruption'))
train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='ImageFolder',
        data_root='data/photos/',
        data_prefix='train',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='RandomResizedCrop', scale=size, crop_ratio_range=(0.25, 1.0)),
            dict(type='RandomFlip', prob=0.5),
            corruption,
            pack,
        ],
    ),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='ImageFolder',
        data_root='data/photos/',
        data_prefix='held_out',
        test_mode=True,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='ResizeEdge', scale=size, edge='short'),
            dict(type='CenterCrop', crop_size=size),
            dict(**corruption, seed=0),
            pack,
        ],
    ),
)
val_evaluator = [dict(type='RestorationMetric'), dict(type='EnergyMetric')]
val_cfg = dict()
test_dataloader = val_dataloader
test_evaluator = val_evaluator
test_cfg = dict()

# Far above the paper's 1e-4: a small network with little time.
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(lr=2e-3), clip_grad=dict(max_norm=0.3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=2, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        T_max=epochs - 2,
        begin=2,
        end=epochs,
        eta_min=0,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=epochs)
default_hooks = dict(logger=dict(interval=10))
# Tells neighbouring patches apart from the start: +0.4 to +1.1 dB after 480 iterations.
custom_hooks = [*_base_.custom_hooks, dict(type='SinCosPositionEmbeddingHook')]
