"""As mae-shallow, but it predicts the edges of masked patches, too: the targets of energy-inpainting4-75-hog.

DATA_ROOT=data/cifar10 python tools/train.py \
    configs/small/mae-hog_vit-mini-p4_1xb32-amp-coslr-40e_small32.py

Paper: no row; an arm of the comparison in docs/small_data.md: after 6 epochs linear probe 53.7 %, finetuned 67.2 %.
"""

_base_ = './mae-shallow_vit-mini-p4_1xb32-amp-coslr-40e_small32.py'

model = dict(
    neck=dict(predict_feature_dim=75),  # 48 of pixels, 27 of edges
    head=dict(type='MAEHOGHead', target_generator=dict(type='PatchHOG', patch_size=4, pool=4)),
)
