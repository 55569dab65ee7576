"""MMPretrain's SimMIM on 32² images.

MMPretrain's SimMIM needs a Swin: this one has three stages of 16², 8² and 4² tokens, 2.6 M parameters. Ours:
the schedule of all methods on small images; masks of 4² pixels, where images of 192² have 32².

DATA_ROOT=data/cifar10 python tools/train.py \
    configs/small/simmim_swin-micro-p2_1xb128-amp-coslr-40e_small32.py

Paper: no row; the paper trains on ImageNet at 224². Not yet measured here.
"""

_base_ = [
    '../_base_/datasets/small32_bs128.py',
    '../_base_/schedules/adamw_bs128_40e_small.py',
    '../_base_/bundled_runtime.py',
]
model = dict(
    type='SimMIM',
    backbone=dict(
        type='SimMIMSwinTransformer',
        arch=dict(embed_dims=64, depths=[2, 4, 2], num_heads=[2, 4, 8]),
        img_size=32,
        patch_cfg=dict(kernel_size=2, stride=2),
        out_indices=(2,),
        stage_cfgs=dict(block_cfgs=dict(window_size=4)),
    ),
    neck=dict(type='SimMIMLinearDecoder', in_channels=64 * 2**2, encoder_stride=2 * 2**2),
    head=dict(
        type='SimMIMHead',
        patch_size=2,
        loss=dict(type='PixelReconstructionLoss', criterion='L1', channel=3),
    ),
    data_preprocessor=dict(
        type='SelfSupDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    ),
)
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys=dict(relative_position_bias_table=dict(decay_mult=0.0)))
)
mask = dict(
    type='SimMIMMaskGenerator',
    input_size=32,
    mask_patch_size=4,
    model_patch_size=2,
    mask_ratio=0.6,
)
train_dataloader = dict(dataset=dict(pipeline=[*_base_.train_augmentation, mask, _base_.pack]))
val_dataloader = val_evaluator = val_cfg = None  # MMPretrain's SimMIM has no validation
test_dataloader = test_evaluator = test_cfg = None
