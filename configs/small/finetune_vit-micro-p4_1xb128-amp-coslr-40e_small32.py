"""Finetuning the pretrained small ViT on 32² images, 40 epochs.

DATA_ROOT=data/cifar10 PRETRAINED=FILE python tools/train.py \
    configs/small/finetune_vit-micro-p4_1xb128-amp-coslr-40e_small32.py --work-dir work_dirs/ROW/finetuning

Any checkpoint of the pretraining configs of this folder, except BEiT's (finetune_beit-micro).

Paper: no row; the small version of configs/evaluation. Not yet measured here.
"""

_base_ = [
    '../_base_/models/classifier_vit-micro-p4_32.py',
    '../_base_/datasets/small32_bs128_finetune.py',
    '../_base_/schedules/adamw_bs128_40e_small_finetune.py',
    '../_base_/pretrained_runtime.py',
]
default_hooks = dict(position_embedding=dict(type='SinCosPositionEmbeddingHook'))
