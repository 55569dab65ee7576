# ViT-L/16 at 224² and its energy.
_base_ = './energy_vit-small-p16.py'

model = dict(backbone=dict(arch='large'), head=dict(in_channels=1024))
