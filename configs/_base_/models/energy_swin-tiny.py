# Swin-T at 224² and its energy. Its features end as published and as in finetuning: normalised, then
# averaged over the positions, which the head does. No drop path (Table A), which MMPretrain's Swin has
# by default.
_base_ = './energy_vit-small-p16.py'

model = dict(
    backbone=dict(
        _delete_=True, type='SwinTransformer', arch='tiny', img_size=224, drop_path_rate=0.0
    ),
    head=dict(in_channels=768),
)
