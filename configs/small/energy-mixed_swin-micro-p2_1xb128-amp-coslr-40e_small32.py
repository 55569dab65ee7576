"""One of masking, super-resolution, denoising and colorization per image, on a Swin for 32² images:
the small version of Table 6's pretraining.

DATA_ROOT=data/cifar10 python tools/train.py \
    configs/small/energy-mixed_swin-micro-p2_1xb128-amp-coslr-40e_small32.py

Paper: no row; the paper trains on ImageNet at 224². Not yet measured here.
"""

_base_ = [
    '../_base_/models/energy_swin-micro_32.py',
    '../_base_/datasets/small32_bs128_mixed.py',
    '../_base_/schedules/adamw_bs128_40e_small.py',
    '../_base_/default_runtime.py',
]
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys=dict(relative_position_bias_table=dict(decay_mult=0.0)))
)
