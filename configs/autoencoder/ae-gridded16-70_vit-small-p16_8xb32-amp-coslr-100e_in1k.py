"""An auto-encoder that fills in 70 % of the 16×16 squares of a grid.

Unlike MAE, it is shown blank squares, and its loss covers the visible ones too.

bash tools/dist_train.sh configs/autoencoder/ae-gridded16-70_vit-small-p16_8xb32-amp-coslr-100e_in1k.py 8

Paper: no row; its mask is that of Table 1, row "Gridded (16)", column 70 %, as for MAE.
Not yet measured here.
"""

_base_ = './ae-denoising_vit-small-p16_8xb32-amp-coslr-100e_in1k.py'

corruption = dict(type='GriddedMask', patch_size=16, ratio=0.7)
train_dataloader = dict(
    dataset=dict(pipeline=[*_base_.train_augmentation, corruption, _base_.pack])
)
val_dataloader = dict(
    dataset=dict(pipeline=[*_base_.val_preparation, dict(**corruption, seed=0), _base_.pack])
)
test_dataloader = val_dataloader
