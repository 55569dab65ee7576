"""Linear probe: a linear classifier on the frozen small Swin, 32² images, 40 epochs.

DATA_ROOT=data/cifar10 PRETRAINED=FILE python tools/train.py \
    configs/small/linear_swin-micro-p2_1xb512-amp-coslr-40e_small32.py --work-dir work_dirs/ROW/linear

Any checkpoint that finetune_swin-micro-p2 takes.

Paper: no row; the small version of configs/evaluation. Not yet measured here.
"""

_base_ = [
    '../_base_/models/linear_swin-micro_32.py',
    '../_base_/datasets/small32_bs512_linear.py',
    '../_base_/schedules/sgd_bs512_40e_small_linear.py',
    '../_base_/pretrained_runtime.py',
]
