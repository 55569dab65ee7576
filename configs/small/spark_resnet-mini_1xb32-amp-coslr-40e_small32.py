"""MMPretrain's SparK on 32² images, on the ResNet of 0.5 M parameters.

Ours: patches of 8², of which 60 % are masked, as of 32² at 224²; a small decoder; the schedule of all methods.

DATA_ROOT=data/cifar10 python tools/train.py \
    configs/small/spark_resnet-mini_1xb32-amp-coslr-40e_small32.py

Paper: no row; an arm of the comparison in docs/small_data.md: after 6 epochs linear probe 43.6 %, finetuned 68.0 %.
"""

_base_ = './spark_convnext-mini-p2_1xb32-amp-coslr-40e_small32.py'

model = dict(
    enc_dec_norm_cfg=dict(type='SparseBatchNorm2d'),
    enc_dec_norm_dim=80,
    backbone=dict(
        _delete_=True,
        type='SparseResNet',
        depth=34,
        num_stages=2,
        strides=(1, 2),
        dilations=(1, 1),
        out_indices=(0, 1),
        stem_channels=40,
        base_channels=40,
        norm_cfg=dict(type='SparseBatchNorm2d'),
    ),
)
