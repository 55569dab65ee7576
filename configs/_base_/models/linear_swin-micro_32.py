# A linear classifier on the frozen small Swin: averaged features, batch norm without parameters,
# then one layer.
_base_ = './classifier_swin-micro_32.py'

model = dict(
    backbone=dict(drop_path_rate=0.0, frozen_stages=2),
    neck=[dict(type='GlobalAveragePooling'), dict(type='ClsBatchNormNeck', input_features=256)],
    head=dict(
        loss=dict(_delete_=True, type='CrossEntropyLoss'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.01),
    ),
    train_cfg=None,
)
