"""Finetuning the small ViT that BEiT pretrained, 32² images, 40 epochs.

DATA_ROOT=data/cifar10 PRETRAINED=FILE python tools/train.py \
    configs/small/finetune_beit-micro-p4_1xb128-amp-coslr-40e_small32.py --work-dir work_dirs/ROW/finetuning

BEiT's network has layer scales and relative position biases; otherwise as finetune_vit-micro.

Paper: no row; the small version of configs/evaluation. Not yet measured here.
"""

_base_ = './finetune_vit-micro-p4_1xb128-amp-coslr-40e_small32.py'

model = dict(backbone=dict(type='BEiTViT'))
# BEiT's network has no position embedding to start at sin-cos.
default_hooks = dict(
    _delete_=True,
    **{name: hook for name, hook in _base_.default_hooks.items() if name != 'position_embedding'},
)
