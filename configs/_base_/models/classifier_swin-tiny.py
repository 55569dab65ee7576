# Swin-T at 224² with a linear classifier, for finetuning (Table A). The backbone ends as in
# pretraining: normalised, then averaged over the positions.
_base_ = './classifier_vit-small-p16.py'

model = dict(
    backbone=dict(
        _delete_=True, type='SwinTransformer', arch='tiny', img_size=224, drop_path_rate=0.1
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(in_channels=768),
)
