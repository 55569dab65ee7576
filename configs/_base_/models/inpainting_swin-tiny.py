# Swin-T at 224² and an energy of masked patches given its last map, 7 × 7 positions.
_base_ = './inpainting_vit-small-p16.py'

model = dict(
    backbone=dict(
        _delete_=True, type='SwinTransformer', arch='tiny', img_size=224, drop_path_rate=0.0
    ),
    head=dict(in_channels=768, context_grid=224 // 32),
    hide_masked=False,
)
