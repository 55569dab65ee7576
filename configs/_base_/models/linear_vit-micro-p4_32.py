# A linear classifier on the frozen small ViT: batch norm without parameters, then one layer.
_base_ = './classifier_vit-micro-p4_32.py'

model = dict(
    backbone=dict(drop_path_rate=0.0, frozen_stages=6),
    neck=dict(type='ClsBatchNormNeck', input_features=192),
    head=dict(
        loss=dict(_delete_=True, type='CrossEntropyLoss'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.01),
    ),
    train_cfg=None,
)
