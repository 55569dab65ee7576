"""Linear probe: a linear classifier on the frozen ViT-L of BEiT, ImageNet, 90 epochs.

PRETRAINED=FILE bash tools/dist_train.sh configs/evaluation/linear_beit-large-p16_8xb2048-amp-coslr-90e_in1k.py 8 --work-dir work_dirs/ROW/linear

A checkpoint of MMPretrain's BEiT; otherwise as linear_vit-large.

Paper: no row. Not yet measured here.
"""

_base_ = './linear_vit-large-p16_8xb2048-amp-coslr-90e_in1k.py'

model = dict(backbone=dict(type='BEiTViT'))
