"""Finetuning a pretrained ConvNeXt-T on ImageNet for 100 epochs.

PRETRAINED=FILE bash tools/dist_train.sh configs/evaluation/finetune_convnext-tiny_8xb128-amp-coslr-100e_in1k.py 8 --work-dir work_dirs/ROW/finetuning

A checkpoint of energy-mixed_convnext-tiny, or a bare backbone; the log says how many tensors it filled.

Paper: Table 6, column "PT 200E + FT 100E", ConvNeXt-T; recipe of Table A.
Expect 82.7 % top-1 after 200 epochs of "Mixed" (paper). Not yet measured here.
"""

_base_ = [
    '../_base_/models/classifier_convnext-tiny.py',
    '../_base_/datasets/imagenet_bs128_finetune.py',
    '../_base_/schedules/adamw_bs1024_100e_finetune.py',
    '../_base_/pretrained_runtime.py',
]
