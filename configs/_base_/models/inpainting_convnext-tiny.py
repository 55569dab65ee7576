# ConvNeXt-T at 224² and an energy of masked patches given its last map, 7 × 7 positions, each with a norm of its own.
_base_ = './inpainting_vit-small-p16.py'

model = dict(
    backbone=dict(_delete_=True, type='ConvNeXt', arch='tiny', gap_before_final_norm=False),
    head=dict(in_channels=768, context_grid=224 // 32),
    hide_masked=False,
)
