# A linear classifier on the frozen small ConvNeXt: batch norm without parameters, then one layer.
_base_ = './classifier_convnext-micro_32.py'

model = dict(
    backbone=dict(drop_path_rate=0.0, frozen_stages=4),
    neck=dict(type='ClsBatchNormNeck', input_features=288),
    head=dict(
        loss=dict(_delete_=True, type='CrossEntropyLoss'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.01),
    ),
    train_cfg=None,
)
