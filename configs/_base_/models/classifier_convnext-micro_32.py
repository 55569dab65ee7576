# The small ConvNeXt for 32² images with a linear classifier; the recipe is that of the small ViT.
_base_ = './classifier_vit-micro-p4_32.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='ConvNeXt',
        arch=dict(depths=[2, 2, 6, 2], channels=[36, 72, 144, 288]),
        stem_patch_size=2,
        drop_path_rate=0.1,
    ),
    head=dict(in_channels=288),
)
