"""Finetuning a ViT-S pretrained by BEiT on ImageNet for 100 epochs.

PRETRAINED=FILE bash tools/dist_train.sh configs/evaluation/finetune_beit-small-p16_8xb128-amp-coslr-100e_in1k.py 8 --work-dir work_dirs/ROW/finetuning

A checkpoint of MMPretrain's BEiT, whose network has layer scales and, in place of the position
embedding, relative position biases. Recipe and normalisation are those of the other methods (ours:
MMPretrain's own benchmark of BEiT has another learning rate, layer decay and normalisation).

Paper: no row. Not yet measured here.
"""

_base_ = './finetune_vit-small-p16_8xb128-amp-coslr-100e_in1k.py'

model = dict(backbone=dict(type='BEiTViT'))
