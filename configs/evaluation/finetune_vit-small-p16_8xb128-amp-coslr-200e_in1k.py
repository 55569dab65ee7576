"""Finetuning a pretrained ViT-S on ImageNet for 200 epochs.

PRETRAINED=FILE bash tools/dist_train.sh configs/evaluation/finetune_vit-small-p16_8xb128-amp-coslr-200e_in1k.py 8 --work-dir work_dirs/ROW/finetuning

Any checkpoint of energy restoration, sorting, MAE or an auto-encoder of this repository, or a bare
backbone; the log says how many tensors it filled. For BEiT's network use finetune_beit-small.

Paper: Table 3, ViT-S, and Table 4, 200 epochs of finetuning; recipe of Table A.
Expect 81.2 and 81.8 after 200 and 800 epochs of "Mixed", 81.0 after 100 of "Random large", 80.2 after
400 of MAE (paper, top-1 in %). Not yet measured here.
"""

_base_ = [
    '../_base_/models/classifier_vit-small-p16.py',
    '../_base_/datasets/imagenet_bs128_finetune.py',
    '../_base_/schedules/adamw_bs1024_200e_finetune.py',
    '../_base_/pretrained_runtime.py',
]
