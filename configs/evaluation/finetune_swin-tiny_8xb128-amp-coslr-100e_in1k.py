"""Finetuning a pretrained Swin-T on ImageNet for 100 epochs.

PRETRAINED=FILE bash tools/dist_train.sh configs/evaluation/finetune_swin-tiny_8xb128-amp-coslr-100e_in1k.py 8 --work-dir work_dirs/ROW/finetuning

A checkpoint of energy-mixed_swin-tiny, or a bare backbone; the log says how many tensors it filled.

Paper: Table 6, column "PT 200E + FT 100E", Swin-T; recipe of Table A.
Expect 82.2 % top-1 after 200 epochs of "Mixed" (paper). Not yet measured here.
"""

_base_ = [
    '../_base_/models/classifier_swin-tiny.py',
    '../_base_/datasets/imagenet_bs128_finetune.py',
    '../_base_/schedules/adamw_bs1024_100e_finetune.py',
    '../_base_/pretrained_runtime.py',
]
# No weight decay on the relative position bias tables.
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys=dict(relative_position_bias_table=dict(decay_mult=0.0)))
)
