"""An energy of the masked patches of an image and of their edges, given ConvNeXt-T's features of the image.

bash tools/dist_train.sh \
    configs/recipe/energy-inpainting16-75-hog_convnext-tiny_8xb512-amp-coslr-100e_in1k.py 8

Ours: the network sees the masked patches as grey, since it cannot leave them out. It is differentiated once and
not twice, so an iteration costs about half of one of configs/mixed. No weight decay on layer scales.

Paper: no row, this is ours. Not yet measured here; what it is worth on small images: docs/small_data.md.
"""

_base_ = [
    '../_base_/models/inpainting_convnext-tiny.py',
    '../_base_/datasets/imagenet_bs512_gridded75.py',
    '../_base_/schedules/adamw_bs4096_100e.py',
    '../_base_/default_runtime.py',
]
optim_wrapper = dict(paramwise_cfg=dict(flat_decay_mult=0.0))
