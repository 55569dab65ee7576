"""Finetuning a pretrained ViT-S on ImageNet for 100 epochs.

PRETRAINED=FILE bash tools/dist_train.sh configs/evaluation/finetune_vit-small-p16_8xb128-amp-coslr-100e_in1k.py 8 --work-dir work_dirs/ROW/finetuning

Any checkpoint of energy restoration, sorting, MAE or an auto-encoder of this repository, or a bare
backbone; the log says how many tensors it filled. For BEiT's network use finetune_beit-small.

Paper: Tables 1, 2 and 4, 100 epochs of finetuning; recipe of Table A.
Expect 79.7 after 100 epochs of "Random large", 78.3 after 400 of MAE (paper, top-1 in %). Not yet measured here.
"""

_base_ = [
    '../_base_/models/classifier_vit-small-p16.py',
    '../_base_/datasets/imagenet_bs128_finetune.py',
    '../_base_/schedules/adamw_bs1024_100e_finetune.py',
    '../_base_/pretrained_runtime.py',
]
