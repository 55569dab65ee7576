"""Finetuning a ViT-B pretrained by BEiT on ImageNet for 100 epochs.

PRETRAINED=FILE bash tools/dist_train.sh configs/evaluation/finetune_beit-base-p16_8xb128-amp-coslr-100e_in1k.py 8 --work-dir work_dirs/ROW/finetuning

A checkpoint of MMPretrain's BEiT, whose network has layer scales and, in place of the position
embedding, relative position biases. Recipe and normalisation are those of the other methods (ours:
MMPretrain's own benchmark of BEiT has another learning rate, layer decay and normalisation).

Paper: Table 3, row "BEiT". Expect 83.2 after 800 epochs of BEiT (published, Table 3). Not yet measured here.
"""

_base_ = './finetune_vit-base-p16_8xb128-amp-coslr-100e_in1k.py'

model = dict(backbone=dict(type='BEiTViT'))
