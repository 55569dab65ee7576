"""An energy of the masked patches of an image and of their edges, given the other 25 %: for features.

bash tools/dist_train.sh \
    configs/recipe/energy-inpainting16-75-hog_vit-base-p16_8xb512-amp-coslr-400e_in1k.py 8

Paper: no row, this is ours; it compares with
configs/baselines/mae_vit-base-p16_8xb512-amp-coslr-400e_in1k.py. Not yet measured here.
"""

_base_ = './energy-inpainting16-75-hog_vit-small-p16_8xb512-amp-coslr-100e_in1k.py'

model = dict(backbone=dict(arch='base'), head=dict(in_channels=768, embed_dims=512, num_heads=16))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=40, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        T_max=360,
        begin=40,
        end=400,
        eta_min=0,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=400)
