"""Finetuning the pretrained small ConvNeXt on 32² images, 40 epochs.

DATA_ROOT=data/cifar10 PRETRAINED=FILE python tools/train.py \
    configs/small/finetune_convnext-micro-p2_1xb128-amp-coslr-40e_small32.py --work-dir work_dirs/ROW/finetuning

A checkpoint of energy-mixed_convnext-micro-p2.

Paper: no row; the small version of configs/evaluation. Not yet measured here.
"""

_base_ = [
    '../_base_/models/classifier_convnext-micro_32.py',
    '../_base_/datasets/small32_bs128_finetune.py',
    '../_base_/schedules/adamw_bs128_40e_small_finetune.py',
    '../_base_/pretrained_runtime.py',
]
