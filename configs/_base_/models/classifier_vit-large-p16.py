# ViT-L/16 at 224² with a linear classifier.
_base_ = './classifier_vit-small-p16.py'

model = dict(backbone=dict(arch='large'), head=dict(in_channels=1024))
