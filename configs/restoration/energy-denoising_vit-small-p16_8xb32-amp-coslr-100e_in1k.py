"""Denoising.

bash tools/dist_train.sh configs/restoration/energy-denoising_vit-small-p16_8xb32-amp-coslr-100e_in1k.py 8

Paper: Table 2, row "Denoising"; ViT-S, 100 epochs.
Expect, after finetuning for 100 epochs: 79.2 % top-1 (paper). Not yet measured here.
"""

_base_ = [
    '../_base_/models/energy_vit-small-p16.py',
    '../_base_/datasets/imagenet_bs32.py',
    '../_base_/schedules/adamw_bs256_100e.py',
    '../_base_/default_runtime.py',
]

corruption = dict(type='GaussianNoise', gamma_range=(0.0, 1.0))
train_dataloader = dict(
    dataset=dict(
        pipeline=[*_base_.train_augmentation, dict(**corruption, on_device=True), _base_.pack]
    )
)
val_dataloader = dict(
    dataset=dict(pipeline=[*_base_.val_preparation, dict(**corruption, seed=0), _base_.pack])
)
test_dataloader = val_dataloader
