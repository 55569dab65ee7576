"""An energy of the masked patches of an image and of their edges, given the other 25 %: for features.

bash tools/dist_train.sh \
    configs/recipe/energy-inpainting16-75-hog_vit-small-p16_8xb512-amp-coslr-100e_in1k.py 8

Paper: no row, this is ours. Batch size, learning rate and initial weights are MAE's, so that it compares with
configs/baselines/mae_vit-small-p16_8xb512-amp-coslr-100e_in1k.py. The histograms of oriented gradients are
MaskFeat's. Not yet measured here; what it is worth on small images: docs/small_data.md.
"""

_base_ = [
    '../_base_/models/inpainting_vit-small-p16.py',
    '../_base_/datasets/imagenet_bs512_gridded75.py',
    '../_base_/schedules/adamw_bs4096_100e.py',
    '../_base_/default_runtime.py',
]
default_hooks = dict(position_embedding=dict(type='SinCosPositionEmbeddingHook'))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(pos_embed=dict(lr_mult=0.0))))
