"""A small convolutional network on 48² crops, three corruptions mixed: minutes on two CPU cores.

make quickstart                      # or: python tools/quickstart.py [--data FOLDER]

No row of the paper: a first look. Expect on 24 held-out squares of 96²: masks 13.8 → 23.7 dB (SSIM 0.33 → 0.71),
super-resolution 22.5 → 23.6 (0.69 → 0.72), noise 17.7 → 24.4 (0.32 → 0.66). All of it took 2:51 minutes on two idle
cores of an AMD EPYC (Zen 4), in bfloat16; with AVX2 alone, in float32, an iteration takes 1.8 times as long. Not colour,
in which the network that comes with mmebm gains 0.2 dB.
"""

_base_ = '../network/energy-mixed_plain-convnet_1xb32-amp-coslr-51e_photos.py'

size, batch, epochs = 48, 16, 20  # of 100 iterations: 2,000
model = dict(backbone=dict(dims=(32, 64, 96, 128)), head=dict(in_channels=128))
corruption = dict(
    type='MixedCorruption',
    corruptions=[
        dict(type='GriddedMask', patch_size=4, ratio=0.5),
        dict(type='SuperResolution', scale=4),
        dict(type='GaussianNoise', gamma_range=(0.5, 1.0)),
    ],
    probs=[0.3, 0.4, 0.3],
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=size, crop_ratio_range=(0.25, 1.0)),
    dict(type='RandomFlip', prob=0.5),
    corruption,
    _base_.pack,
]
val_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=2 * size, edge='short'),
    dict(type='CenterCrop', crop_size=size),
    dict(**corruption, seed=0),
    _base_.pack,
]
data_root = 'data/photos'
train_dataloader = dict(
    batch_size=batch,
    worker_init_fn=dict(type='own_process_group'),
    sampler=dict(_delete_=True, type='RoundSampler', round_size=batch * 100),
    dataset=dict(data_root=data_root, pipeline=train_pipeline),
)
val_dataloader = dict(batch_size=batch, dataset=dict(data_root=data_root, pipeline=val_pipeline))
test_dataloader = val_dataloader

# More than for the larger network: +0.1 to +0.35 dB over 1e-3 (docs/notes.md).
optim_wrapper = dict(
    dtype=None,  # bfloat16 where the processor computes in it
    optimizer=dict(lr=2e-3),
    paramwise_cfg=dict(custom_keys=dict(log_step_size=dict(lr_mult=10))),
)
auto_scale_lr = dict(base_batch_size=batch)
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
train_cfg = dict(max_epochs=epochs, val_interval=2)
default_hooks = dict(
    checkpoint=dict(_delete_=True, type='CheckpointHook', interval=1, max_keep_ckpts=2)
)
custom_hooks = [
    dict(type='ReproducibleEpochsHook'),
    dict(type='UnreadableImagesHook', max_share=0.5),
    dict(type='FiniteLossHook'),
    dict(type='GracefulStopHook'),
    dict(type='ReportHook'),
]
