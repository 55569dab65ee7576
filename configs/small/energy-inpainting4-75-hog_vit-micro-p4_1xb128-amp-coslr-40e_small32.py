"""As energy-inpainting4-75, and each patch is also described by its edges: better features.

DATA_ROOT=data/cifar10 python tools/train.py \
    configs/small/energy-inpainting4-75-hog_vit-micro-p4_1xb128-amp-coslr-40e_small32.py

Paper: no row, this is ours; see docs/small_data.md. The histograms of oriented gradients are MaskFeat's.
Not yet measured here at this length.
"""

_base_ = './energy-inpainting4-75_vit-micro-p4_1xb128-amp-coslr-40e_small32.py'

model = dict(
    head=dict(extra_values=27),  # 9 angles of 3 colours
    target_generator=dict(type='PatchHOG', patch_size=4, pool=4),
)
