# ImageNet-1K without labels: 8 GPUs × 32 images (Table A: batch size 256).
# A config puts its corruption between the two parts of a pipeline:
#   pipeline=[*_base_.train_augmentation, corruption, _base_.pack]
data_root = 'data/imagenet/'

# Section 3, "Training": only random cropping and horizontal flipping. The crop's share of the image
# is MAE's (ours: the paper says "RandomResizedCrop" and that most settings follow MAE).
train_augmentation = [
    dict(type='LoadImageFromFile'),
    dict(
        type='RandomResizedCrop',
        scale=224,
        crop_ratio_range=(0.2, 1.0),
        backend='pillow',
        interpolation='bicubic',
    ),
    dict(type='RandomFlip', prob=0.5),
]
val_preparation = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=256, edge='short', backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=224),
]
pack = dict(type='PackInputs', meta_keys=('sample_idx', 'img_path', 'corruption'))

train_dataloader = dict(
    batch_size=32,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='ImageFolder', data_root=data_root, data_prefix='train'),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='ImageFolder', data_root=data_root, data_prefix='val', test_mode=True),
)
val_evaluator = [dict(type='RestorationMetric'), dict(type='EnergyMetric')]
val_cfg = dict()
test_dataloader = val_dataloader
test_evaluator = val_evaluator
test_cfg = dict()
