# ViT-B/16 at 224² with a linear classifier.
_base_ = './classifier_vit-small-p16.py'

model = dict(backbone=dict(arch='base'), head=dict(in_channels=768))
