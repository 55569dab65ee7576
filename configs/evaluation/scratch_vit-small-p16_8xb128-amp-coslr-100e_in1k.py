"""A ViT-S from scratch on ImageNet for 100 epochs: the finetuning recipe without a checkpoint.

bash tools/dist_train.sh configs/evaluation/scratch_vit-small-p16_8xb128-amp-coslr-100e_in1k.py 8

Ours, since the paper does not give its recipe: all of Table A, the layer-wise decay included. Without
it: --cfg-options optim_wrapper.paramwise_cfg.layer_decay_rate=1.0

Paper: Tables 1 and 2, row "From scratch".
Expect 76.6 % top-1 (paper). Not yet measured here.
"""

_base_ = [
    '../_base_/models/classifier_vit-small-p16.py',
    '../_base_/datasets/imagenet_bs128_finetune.py',
    '../_base_/schedules/adamw_bs1024_100e_finetune.py',
    '../_base_/evaluation_runtime.py',
]
