"""The ConvNeXt of 0.5 M parameters from scratch on 32² images: the finetuning recipe without a checkpoint, 40 epochs.

DATA_ROOT=data/cifar10 python tools/train.py \
    configs/small/scratch_convnext-mini-p2_1xb128-amp-coslr-40e_small32.py

Paper: no row; an arm of the comparison in docs/small_data.md: 60.7 % on 5,000 labels, 30 epochs.
"""

_base_ = './finetune_convnext-mini-p2_1xb128-amp-coslr-40e_small32.py'

default_hooks = dict(pretrained_backbone=None)
