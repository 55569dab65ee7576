"""One of masking, super-resolution, denoising and colorization per image.

bash tools/dist_train.sh configs/mixed/energy-mixed_vit-large-p16_8xb32-amp-coslr-800e_in1k.py 8

Paper: Table 3, row "Ours Mixed 800 + e"; ViT-L, 800 epochs.
Expect, after finetuning for 50 epochs: 85.6 % top-1 (paper). Not yet measured here.
"""

_base_ = [
    '../_base_/models/energy_vit-large-p16.py',
    '../_base_/datasets/imagenet_bs32_mixed.py',
    '../_base_/schedules/adamw_bs256_800e.py',
    '../_base_/default_runtime.py',
]
