# Images of 32² in class sub-folders, such as CIFAR-10: DATA_ROOT/{train,test}/CLASS/IMAGE. Labels are
# not used here. A config puts its corruption between the two parts of a pipeline, as for ImageNet.
data_root = '{{$DATA_ROOT:data/cifar10}}'

# Cropping as usual on CIFAR: images this small lose too much to a random resized crop of 20 %.
train_augmentation = [
    dict(type='LoadImageFromFile'),
    # Four reflected pixels at each border. RandomCrop's own `padding` would make them black.
    dict(type='RandomCrop', crop_size=40, pad_if_needed=True, padding_mode='reflect'),
    dict(type='RandomCrop', crop_size=32),
    dict(type='RandomFlip', prob=0.5),
]
val_preparation = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(32, 32))]
pack = dict(type='PackInputs', meta_keys=('sample_idx', 'img_path', 'corruption'))

train_dataloader = dict(
    batch_size=128,
    num_workers=2,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='ImageFolder', data_root=data_root, data_prefix='train'),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='ImageFolder', data_root=data_root, data_prefix='test', test_mode=True),
)
val_evaluator = [dict(type='RestorationMetric'), dict(type='EnergyMetric')]
val_cfg = dict()
test_dataloader = val_dataloader
test_evaluator = val_evaluator
test_cfg = dict()
