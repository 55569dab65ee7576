"""One of masking, super-resolution, denoising and colorization per image.

bash tools/dist_train.sh configs/mixed/energy-mixed_vit-base-p16_8xb32-amp-coslr-200e_in1k.py 8

Paper: Table 3, row "Ours Mixed 200 + e"; ViT-B, 200 epochs.
Expect, after finetuning for 100 epochs: 83.1 % top-1 (paper). Not yet measured here.
"""

_base_ = [
    '../_base_/models/energy_vit-base-p16.py',
    '../_base_/datasets/imagenet_bs32_mixed.py',
    '../_base_/schedules/adamw_bs256_200e.py',
    '../_base_/default_runtime.py',
]
