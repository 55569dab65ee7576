"""MMPretrain's Barlow Twins on 32² images, on the ConvNeXt of 0.5 M parameters.

Ours: a projector of 512, AdamW and the schedule of all methods; batches of 128, since it compares the images of
a batch; views without blur, as usual at 32².

DATA_ROOT=data/cifar10 python tools/train.py \
    configs/small/barlowtwins_convnext-mini-p2_1xb128-amp-coslr-40e_small32.py

Paper: no row; an arm of the comparison in docs/small_data.md: after 6 epochs linear probe 43.2 %, finetuned 61.6 %.
"""

_base_ = '../_base_/models/barlowtwins_small.py'

model = dict(
    backbone=dict(
        type='ConvNeXt',
        arch=dict(depths=[2, 2, 3], channels=[32, 64, 128]),
        stem_patch_size=2,
        out_indices=(2,),
    ),
    neck=dict(in_channels=128, with_avg_pool=False),
)
optim_wrapper = dict(paramwise_cfg=dict(flat_decay_mult=0.0))
