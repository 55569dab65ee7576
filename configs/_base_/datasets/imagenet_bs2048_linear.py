# ImageNet-1K with labels for a linear probe: 8 GPUs × 2048 images, crops and flips only (MAE).
_base_ = './imagenet_bs128_finetune.py'

train_dataloader = dict(
    batch_size=2048,
    dataset=dict(
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='RandomResizedCrop', scale=224, backend='pillow', interpolation='bicubic'),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackInputs'),
        ]
    ),
)
