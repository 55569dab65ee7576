"""An energy of the masked patches of an image and of their edges, given Swin-T's features of the image.

bash tools/dist_train.sh \
    configs/recipe/energy-inpainting16-75-hog_swin-tiny_8xb512-amp-coslr-100e_in1k.py 8

Ours: the network sees the masked patches as grey, since it cannot leave them out. It is differentiated once and
not twice, so an iteration costs about half of one of configs/mixed. No weight decay on the relative position
biases, as in Swin.

Paper: no row, this is ours. Not yet measured here.
"""

_base_ = [
    '../_base_/models/inpainting_swin-tiny.py',
    '../_base_/datasets/imagenet_bs512_gridded75.py',
    '../_base_/schedules/adamw_bs4096_100e.py',
    '../_base_/default_runtime.py',
]
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys=dict(relative_position_bias_table=dict(decay_mult=0.0)))
)
