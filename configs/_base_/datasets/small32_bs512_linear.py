# Labelled images of 32² for a linear probe: crops and flips only.
_base_ = './small32_bs128_finetune.py'

train_dataloader = dict(
    batch_size=512,
    dataset=dict(
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='RandomCrop', crop_size=40, pad_if_needed=True, padding_mode='reflect'),
            dict(type='RandomCrop', crop_size=32),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackInputs'),
        ]
    ),
)
val_dataloader = dict(batch_size=512)
test_dataloader = val_dataloader
