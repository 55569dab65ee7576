"""An auto-encoder that removes noise.

bash tools/dist_train.sh configs/autoencoder/ae-denoising_vit-small-p16_8xb32-amp-coslr-100e_in1k.py 8

Paper: Table 2, row "AE + denoising"; ViT-S, 100 epochs.
Expect, after finetuning for 100 epochs: 76.8 % top-1 (paper). Not yet measured here.
"""

_base_ = [
    '../_base_/models/ae_vit-small-p16.py',
    '../_base_/datasets/imagenet_bs32.py',
    '../_base_/schedules/adamw_bs256_100e.py',
    '../_base_/baseline_runtime.py',
]
val_evaluator = [dict(type='RestorationMetric')]  # there is no energy
test_evaluator = val_evaluator

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
