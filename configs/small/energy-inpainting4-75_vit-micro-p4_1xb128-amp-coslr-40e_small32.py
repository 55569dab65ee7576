"""As energy-inpainting4-75-hog, but an energy of the pixels alone.

DATA_ROOT=data/cifar10 python tools/train.py \
    configs/small/energy-inpainting4-75_vit-micro-p4_1xb128-amp-coslr-40e_small32.py

Paper: no row, this is ours; see docs/small_data.md. Not yet measured here at this length.
"""

_base_ = './energy-inpainting4-75-hog_vit-micro-p4_1xb128-amp-coslr-40e_small32.py'

model = dict(head=dict(extra_values=0), target_generator=None)
