# ConvNeXt-T at 224² and its energy. Its features end as published and as in finetuning: averaged over
# the positions, then normalised once.
_base_ = './energy_vit-small-p16.py'

model = dict(
    backbone=dict(_delete_=True, type='ConvNeXt', arch='tiny'),
    head=dict(in_channels=768),
)
