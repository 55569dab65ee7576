"""One of masking, super-resolution, denoising and colorization per image, on ConvNeXt-T.

bash tools/dist_train.sh configs/mixed/energy-mixed_convnext-tiny_8xb32-amp-coslr-200e_in1k.py 8

Ours: the tasks of Table 3, since the paper names none here. No weight decay on layer scales.

Paper: Table 6, column "PT 200E + FT 100E"; ConvNeXt-T, 200 epochs.
Expect, after finetuning for 100 epochs: 82.7 % top-1 (paper). Not yet measured here.
"""

_base_ = [
    '../_base_/models/energy_convnext-tiny.py',
    '../_base_/datasets/imagenet_bs32_mixed.py',
    '../_base_/schedules/adamw_bs256_200e.py',
    '../_base_/default_runtime.py',
]
optim_wrapper = dict(paramwise_cfg=dict(flat_decay_mult=0.0))
