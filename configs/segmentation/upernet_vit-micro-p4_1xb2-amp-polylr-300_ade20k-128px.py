"""UperNet on the small ViT that configs/small pretrains on 32² images: ADE20K at 128², 300 iterations.

DATA_ROOT=FOLDER PRETRAINED=FILE python tools/train.py configs/segmentation/upernet_vit-micro-p4_1xb2-amp-polylr-300_ade20k-128px.py --work-dir work_dirs/ROW/segmentation

For a first try within minutes on a CPU, on a folder of a few images: docs/segmentation.md.

Ours: as for ViT-B, except for the sizes, ten times the learning rate, 40 iterations of warm-up, and a
pyramid of strides 2 to 16.

Paper: no row; the small version of Table 7. Not yet measured here on all of ADE20K.
"""

_base_ = './upernet_vit-base-p16_8xb2-amp-polylr-160k_ade20k-512px.py'

model = dict(
    data_preprocessor=dict(size=(128, 128)),
    backbone=dict(
        arch=dict(
            _delete_=True, embed_dims=192, num_layers=6, num_heads=3, feedforward_channels=768
        ),
        img_size=128,
        patch_size=4,
        out_indices=[1, 2, 3, 5],
    ),
    neck=dict(embed_dim=192, rescales=[2, 1, 0.5, 0.25]),  # patches of 4² need no factor of 4
    decode_head=dict(in_channels=[192, 192, 192, 192], channels=64),
    auxiliary_head=dict(in_channels=192, channels=64),
    test_cfg=dict(crop_size=(128, 128), stride=(85, 85)),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(512, 128), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(128, 128), cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(512, 128), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(num_workers=1, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=40),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=40, end=300),
]
train_cfg = dict(max_iters=300, val_interval=300)
auto_scale_lr = dict(base_batch_size=2)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=100))
