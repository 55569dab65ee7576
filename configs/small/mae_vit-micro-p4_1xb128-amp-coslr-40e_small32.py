"""MMPretrain's MAE on 32² images.

Ours: the schedule of all methods on small images, and the decoder of ae_vit-micro-p4_32.py.

DATA_ROOT=data/cifar10 python tools/train.py \
    configs/small/mae_vit-micro-p4_1xb128-amp-coslr-40e_small32.py

Paper: no row; the paper trains on ImageNet at 224². Not yet measured here.
"""

_base_ = [
    'mmpretrain::_base_/models/mae_vit-base-p16.py',
    '../_base_/datasets/small32_bs128.py',
    '../_base_/schedules/adamw_bs128_40e_small.py',
    '../_base_/bundled_runtime.py',
]
model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True, embed_dims=192, num_layers=6, num_heads=3, feedforward_channels=768
        ),
        img_size=32,
        patch_size=4,
    ),
    neck=dict(
        num_patches=64,
        patch_size=4,
        embed_dim=192,
        decoder_embed_dim=128,
        decoder_depth=4,
        decoder_num_heads=4,
    ),
    head=dict(patch_size=4),
    data_preprocessor=dict(
        type='SelfSupDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    ),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(mask_token=dict(decay_mult=0.0))))
train_dataloader = dict(dataset=dict(pipeline=[*_base_.train_augmentation, _base_.pack]))
val_dataloader = val_evaluator = val_cfg = None  # MMPretrain's MAE has no validation
test_dataloader = test_evaluator = test_cfg = None
