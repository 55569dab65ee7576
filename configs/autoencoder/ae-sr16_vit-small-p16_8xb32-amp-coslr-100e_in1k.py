"""An auto-encoder for super-resolution 16×.

bash tools/dist_train.sh configs/autoencoder/ae-sr16_vit-small-p16_8xb32-amp-coslr-100e_in1k.py 8

Paper: Table 2, row "AE + SR 16×"; ViT-S, 100 epochs.
Expect, after finetuning for 100 epochs: 77.1 % top-1 (paper). Not yet measured here.
"""

_base_ = './ae-denoising_vit-small-p16_8xb32-amp-coslr-100e_in1k.py'

corruption = dict(type='SuperResolution', scale=16)
train_dataloader = dict(
    dataset=dict(pipeline=[*_base_.train_augmentation, corruption, _base_.pack])
)
val_dataloader = dict(
    dataset=dict(pipeline=[*_base_.val_preparation, dict(**corruption, seed=0), _base_.pack])
)
test_dataloader = val_dataloader
