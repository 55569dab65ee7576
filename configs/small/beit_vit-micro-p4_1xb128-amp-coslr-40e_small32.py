"""MMPretrain's BEiT on 32² images.

The tokenizer, trained on other and much larger images, gives one token per 8² pixels; to get one per
patch of 4², it sees the image at 64². Its weights are downloaded. To use a local file instead:
--cfg-options model.target_generator.init_cfg.checkpoint=PATH
Ours: the schedule of all methods on small images; 38 % of the patches masked, as at 224².

DATA_ROOT=data/cifar10 python tools/train.py \
    configs/small/beit_vit-micro-p4_1xb128-amp-coslr-40e_small32.py

Paper: no row; the paper trains on ImageNet at 224². Not yet measured here.
"""

_base_ = [
    '../_base_/datasets/small32_bs128.py',
    '../_base_/schedules/adamw_bs128_40e_small.py',
    '../_base_/bundled_runtime.py',
]
model = dict(
    type='BEiT',
    backbone=dict(
        type='BEiTPretrainViT',
        arch=dict(embed_dims=192, num_layers=6, num_heads=3, feedforward_channels=768),
        img_size=32,
        patch_size=4,
        layer_scale_init_value=0.1,
        init_cfg=[
            dict(type='TruncNormal', std=0.02, layer='Linear'),
            dict(type='TruncNormal', std=0.02, layer='Conv2d'),
            dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
        ],
    ),
    neck=None,
    head=dict(
        type='BEiTV1Head',
        embed_dims=192,
        num_embed=8192,
        loss=dict(type='CrossEntropyLoss'),
    ),
    target_generator=dict(
        type='DALL-E',
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://mmassets.onedl.ai/mmselfsup/1.x/target_generator_ckpt/dalle_encoder.pth',
        ),
    ),
    data_preprocessor=dict(
        type='TwoNormDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        second_mean=[-31.875, -31.875, -31.875],
        second_std=[318.75, 318.75, 318.75],
        to_rgb=True,
    ),
)
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys=dict(
            q_bias=dict(decay_mult=0.0), v_bias=dict(decay_mult=0.0), gamma=dict(decay_mult=0.0)
        )
    )
)
two_sizes = dict(
    type='RandomResizedCropAndInterpolationWithTwoPic',
    size=32,
    second_size=8 * 32 // 4,
    interpolation='bicubic',
    second_interpolation='lanczos',
    scale=(1.0, 1.0),  # cropped already
    ratio=(1.0, 1.0),
)
mask = dict(type='BEiTMaskGenerator', input_size=(8, 8), num_masking_patches=24, min_num_patches=4)
train_dataloader = dict(
    dataset=dict(pipeline=[*_base_.train_augmentation, two_sizes, mask, _base_.pack])
)
find_unused_parameters = True
val_dataloader = val_evaluator = val_cfg = None  # MMPretrain's BEiT has no validation
test_dataloader = test_evaluator = test_cfg = None
