"""Linear probe: a linear classifier on the frozen ViT-B of BEiT, ImageNet, 90 epochs.

PRETRAINED=FILE bash tools/dist_train.sh configs/evaluation/linear_beit-base-p16_8xb2048-amp-coslr-90e_in1k.py 8 --work-dir work_dirs/ROW/linear

A checkpoint of MMPretrain's BEiT; otherwise as linear_vit-base.

Paper: no row. Not yet measured here.
"""

_base_ = './linear_vit-base-p16_8xb2048-amp-coslr-90e_in1k.py'

model = dict(backbone=dict(type='BEiTViT'))
