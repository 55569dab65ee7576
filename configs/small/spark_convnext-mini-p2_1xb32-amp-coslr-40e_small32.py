"""MMPretrain's SparK on 32² images, on the ConvNeXt of 0.5 M parameters.

Ours: patches of 8², of which 60 % are masked, as of 32² at 224²; a small decoder; the schedule of all methods.

DATA_ROOT=data/cifar10 python tools/train.py \
    configs/small/spark_convnext-mini-p2_1xb32-amp-coslr-40e_small32.py

Paper: no row; an arm of the comparison in docs/small_data.md: after 6 epochs linear probe 39.6 %, finetuned 63.2 %.
"""

_base_ = [
    '../_base_/datasets/small32_bs128.py',
    '../_base_/schedules/adamw_bs128_40e_small.py',
    '../_base_/bundled_runtime.py',
]
model = dict(
    type='SparK',
    input_size=32,
    downsample_raito=8,
    mask_ratio=0.6,
    enc_dec_norm_cfg=dict(type='SparseLN2d'),
    enc_dec_norm_dim=128,
    backbone=dict(
        type='SparseConvNeXt',
        arch=dict(depths=[2, 2, 3], channels=[32, 64, 128]),
        stem_patch_size=2,
        out_indices=(0, 1, 2),
        gap_before_output=False,
    ),
    neck=dict(
        type='SparKLightDecoder',
        feature_dim=64,
        upsample_ratio=8,
        norm_cfg=dict(type='BN'),
        mid_channels=0,
        last_act=False,
    ),
    head=dict(
        type='SparKPretrainHead',
        patch_size=8,
        loss=dict(type='PixelReconstructionLoss', criterion='L2'),
    ),
    data_preprocessor=dict(
        type='SelfSupDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    ),
)
optim_wrapper = dict(
    optimizer=dict(lr=2e-3 * 32 / 32),
    paramwise_cfg=dict(flat_decay_mult=0.0, custom_keys=dict(mask_token=dict(decay_mult=0.0))),
)
train_dataloader = dict(
    batch_size=32, dataset=dict(pipeline=[*_base_.train_augmentation, _base_.pack])
)
val_dataloader = val_evaluator = val_cfg = None  # MMPretrain's SparK has no validation
test_dataloader = test_evaluator = test_cfg = None
auto_scale_lr = dict(base_batch_size=32)
