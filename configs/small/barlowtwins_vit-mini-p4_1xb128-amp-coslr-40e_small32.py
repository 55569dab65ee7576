"""MMPretrain's Barlow Twins on 32² images, on the ViT of 0.5 M parameters.

Ours: a projector of 512, AdamW and the schedule of all methods; batches of 128, since it compares the images of
a batch; views without blur, as usual at 32².

DATA_ROOT=data/cifar10 python tools/train.py \
    configs/small/barlowtwins_vit-mini-p4_1xb128-amp-coslr-40e_small32.py

Paper: no row; an arm of the comparison in docs/small_data.md. Not yet measured here.
"""

_base_ = '../_base_/models/barlowtwins_small.py'

model = dict(
    backbone=dict(
        type='VisionTransformer',
        arch=dict(embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384),
        img_size=32,
        patch_size=4,
        out_type='avg_featmap',
        final_norm=False,
    ),
    neck=dict(in_channels=96, with_avg_pool=False),
)
default_hooks = dict(position_embedding=dict(type='SinCosPositionEmbeddingHook'))
