"""MMPretrain's MaskFeat on 32² images, with the ViT of 0.5 M parameters.

Ours: HOG of cells of 4² pixels, for 8 × 8 patches; 40 % of them masked, as at 224²; the schedule of all methods.

DATA_ROOT=data/cifar10 python tools/train.py \
    configs/small/maskfeat_vit-mini-p4_1xb32-amp-coslr-40e_small32.py

Paper: no row; an arm of the comparison in docs/small_data.md. Not yet measured here.
"""

_base_ = [
    '../_base_/datasets/small32_bs128.py',
    '../_base_/schedules/adamw_bs128_40e_small.py',
    '../_base_/bundled_runtime.py',
]
model = dict(
    type='MaskFeat',
    backbone=dict(
        type='MaskFeatViT',
        arch=dict(embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384),
        img_size=32,
        patch_size=4,
    ),
    neck=dict(
        type='LinearNeck',
        in_channels=96,
        out_channels=27,
        norm_cfg=None,
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02, bias=0),
    ),
    head=dict(type='MIMHead', loss=dict(type='PixelReconstructionLoss', criterion='L2')),
    target_generator=dict(type='PatchHOG', patch_size=4, pool=4),
    data_preprocessor=dict(
        type='SelfSupDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    ),
)
optim_wrapper = dict(
    optimizer=dict(lr=2e-3 * 32 / 32),
    paramwise_cfg=dict(custom_keys=dict(mask_token=dict(decay_mult=0.0))),
)
default_hooks = dict(position_embedding=dict(type='SinCosPositionEmbeddingHook'))
mask = dict(type='BEiTMaskGenerator', input_size=8, num_masking_patches=26, min_num_patches=4)
train_dataloader = dict(
    batch_size=32, dataset=dict(pipeline=[*_base_.train_augmentation, mask, _base_.pack])
)
val_dataloader = val_evaluator = val_cfg = None  # MMPretrain's MaskFeat has no validation
test_dataloader = test_evaluator = test_cfg = None
