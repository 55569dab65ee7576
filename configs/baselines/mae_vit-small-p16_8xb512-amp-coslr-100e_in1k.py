"""MMPretrain's MAE with ViT-S, for as many epochs as our method in Tables 1 and 2.

MMPretrain's recipe, batch size 4096, on our dataset without labels.
Ours: 10 % of the epochs as warm-up, instead of 40 epochs.

bash tools/dist_train.sh configs/baselines/mae_vit-small-p16_8xb512-amp-coslr-100e_in1k.py 8

Paper: no row. Not yet measured here.
"""

_base_ = './mae_vit-small-p16_8xb512-amp-coslr-400e_in1k.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=10, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        T_max=90,
        begin=10,
        end=100,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=100)
