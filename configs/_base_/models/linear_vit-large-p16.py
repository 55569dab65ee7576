# A linear classifier on the frozen ViT-L/16, as in MAE: batch norm without parameters, then one
# layer. Ours: the features are the average over the patches, which is what was pretrained; MAE
# takes the class token.
_base_ = './classifier_vit-large-p16.py'

model = dict(
    backbone=dict(drop_path_rate=0.0, frozen_stages=24),
    neck=dict(type='ClsBatchNormNeck', input_features=1024),
    head=dict(
        loss=dict(_delete_=True, type='CrossEntropyLoss'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.01),
    ),
    train_cfg=None,
)
