"""Finetuning the small ViT that BEiT pretrained, 32² images, 40 epochs.

DATA_ROOT=data/cifar10 PRETRAINED=FILE python tools/train.py \
    configs/small/finetune_beit-micro-p4_1xb128-amp-coslr-40e_small32.py --work-dir work_dirs/ROW/finetuning

BEiT's network has layer scales and biases by relative position; otherwise as finetune_vit-micro.

Paper: no row; the small twin of configs/evaluation. Not yet measured here.
"""

_base_ = './finetune_vit-micro-p4_1xb128-amp-coslr-40e_small32.py'

model = dict(backbone=dict(type='BEiTViT'))
default_hooks = dict(position_embedding=None)  # BEiT's network has none
