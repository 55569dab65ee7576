"""MMPretrain's Barlow Twins on 32² images, on the ResNet of 0.5 M parameters.

Ours: a projector of 512, AdamW and the schedule of all methods; batches of 128, since it compares the images of
a batch; views without blur, as usual at 32².

DATA_ROOT=data/cifar10 python tools/train.py \
    configs/small/barlowtwins_resnet-mini_1xb128-amp-coslr-40e_small32.py

Paper: no row; an arm of the comparison in docs/small_data.md: after 6 epochs linear probe 48.7 %, finetuned 67.7 %.
"""

_base_ = '../_base_/models/barlowtwins_small.py'

model = dict(
    backbone=dict(
        type='ResNet',
        depth=34,
        num_stages=2,
        strides=(1, 2),
        dilations=(1, 1),
        out_indices=(1,),
        stem_channels=40,
        base_channels=40,
    ),
    neck=dict(in_channels=80),
)
