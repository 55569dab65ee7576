"""Finetuning a pretrained ViT-L on ImageNet for 50 epochs.

PRETRAINED=FILE bash tools/dist_train.sh configs/evaluation/finetune_vit-large-p16_8xb128-amp-coslr-50e_in1k.py 8 --work-dir work_dirs/ROW/finetuning

Any checkpoint of energy restoration, sorting, MAE or an auto-encoder of this repository, or a bare
backbone; the log says how many tensors it filled. For BEiT's network use finetune_beit-large.

Paper: Table 3, ViT-L; recipe of Table A.
Expect 85.6 after 800 epochs of "Mixed" (paper, top-1 in %). Not yet measured here.
"""

_base_ = [
    '../_base_/models/classifier_vit-large-p16.py',
    '../_base_/datasets/imagenet_bs128_finetune.py',
    '../_base_/schedules/adamw_bs1024_50e_finetune.py',
    '../_base_/pretrained_runtime.py',
]
