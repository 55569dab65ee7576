"""MMPretrain's Barlow Twins on 32² images, on the Swin of 0.5 M parameters.

Ours: a projector of 512, AdamW and the schedule of all methods; batches of 128, since it compares the images of
a batch; views without blur, as usual at 32².

DATA_ROOT=data/cifar10 python tools/train.py \
    configs/small/barlowtwins_swin-mini-p2_1xb128-amp-coslr-40e_small32.py

Paper: no row; an arm of the comparison in docs/small_data.md. Not yet measured here.
"""

_base_ = '../_base_/models/barlowtwins_small.py'

model = dict(
    backbone=dict(
        type='SwinTransformer',
        arch=dict(embed_dims=32, depths=[2, 2, 2], num_heads=[1, 2, 4]),
        img_size=32,
        patch_size=2,
        window_size=4,
        out_indices=(2,),
    ),
    neck=dict(in_channels=128),
)
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys=dict(relative_position_bias_table=dict(decay_mult=0.0)))
)
