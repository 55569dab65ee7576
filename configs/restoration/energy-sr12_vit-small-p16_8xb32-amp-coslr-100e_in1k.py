"""Super-resolution 12×.

bash tools/dist_train.sh configs/restoration/energy-sr12_vit-small-p16_8xb32-amp-coslr-100e_in1k.py 8

Paper: Figure 3, "SR 12×". The network and the 100 epochs are ours: the figure names neither.
Expect pictures like those of the figure; there is no accuracy to compare.
"""

_base_ = './energy-denoising_vit-small-p16_8xb32-amp-coslr-100e_in1k.py'

corruption = dict(type='SuperResolution', scale=12)
train_dataloader = dict(
    dataset=dict(pipeline=[*_base_.train_augmentation, corruption, _base_.pack])
)
val_dataloader = dict(
    dataset=dict(pipeline=[*_base_.val_preparation, dict(**corruption, seed=0), _base_.pack])
)
test_dataloader = val_dataloader
