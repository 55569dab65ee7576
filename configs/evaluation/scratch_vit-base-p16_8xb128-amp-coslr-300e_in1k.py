"""A ViT-B from scratch on ImageNet for 300 epochs: the finetuning recipe without a checkpoint.

bash tools/dist_train.sh configs/evaluation/scratch_vit-base-p16_8xb128-amp-coslr-300e_in1k.py 8

Ours, since the paper does not give its recipe: all of Table A, the layer-wise decay included. Without
it: --cfg-options optim_wrapper.paramwise_cfg.layer_decay_rate=1.0

Paper: Table 3, row "From scratch 300", ViT-B.
Expect 82.3 % top-1 (paper, a published number of another recipe). Not yet measured here.
"""

_base_ = [
    '../_base_/models/classifier_vit-base-p16.py',
    '../_base_/datasets/imagenet_bs128_finetune.py',
    '../_base_/schedules/adamw_bs1024_300e_finetune.py',
    '../_base_/evaluation_runtime.py',
]
