# ConvNeXt-T at 224² with a linear classifier, for finetuning (Table A). The backbone ends as in
# pretraining: averaged over the positions and normalised once.
_base_ = './classifier_vit-small-p16.py'

model = dict(
    backbone=dict(_delete_=True, type='ConvNeXt', arch='tiny', drop_path_rate=0.1),
    head=dict(in_channels=768),
)
