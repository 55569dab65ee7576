# The small Swin for 32² images with a linear classifier; the recipe is that of the small ViT.
_base_ = './classifier_vit-micro-p4_32.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='SwinTransformer',
        arch=dict(embed_dims=64, depths=[2, 4, 2], num_heads=[2, 4, 8]),
        img_size=32,
        patch_size=2,
        window_size=4,
        out_indices=(2,),
        drop_path_rate=0.1,
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(in_channels=256),
)
