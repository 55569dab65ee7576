"""The small Swin from scratch on 32² images: the finetuning recipe without a checkpoint, 40 epochs.

DATA_ROOT=data/cifar10 python tools/train.py \
    configs/small/scratch_swin-micro-p2_1xb128-amp-coslr-40e_small32.py

Without layer-wise decay: --cfg-options optim_wrapper.paramwise_cfg.layer_decay_rate=1.0

Paper: no row; the small version of configs/evaluation. Not yet measured here.
"""

_base_ = [
    '../_base_/models/classifier_swin-micro_32.py',
    '../_base_/datasets/small32_bs128_finetune.py',
    '../_base_/schedules/adamw_bs128_40e_small_finetune.py',
    '../_base_/evaluation_runtime.py',
]
# No weight decay on the relative position bias tables.
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys=dict(relative_position_bias_table=dict(decay_mult=0.0)))
)
