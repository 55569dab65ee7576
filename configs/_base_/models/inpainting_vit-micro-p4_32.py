# The ViT for 32² images of energy_vit-micro-p4_32.py, and an energy of masked patches given the others.
# Ours: the head has half of the layers of MAE's decoder there (0.4 M parameters); all four were no better.
_base_ = './inpainting_vit-small-p16.py'

model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True, embed_dims=192, num_layers=6, num_heads=3, feedforward_channels=768
        ),
        img_size=32,
        patch_size=4,
    ),
    head=dict(
        in_channels=192,
        grid=32 // 4,
        patch_size=4,
        embed_dims=128,
        num_layers=2,
        num_heads=4,
        extra_values=27,  # 9 angles, 3 colours, 1 cell
    ),
    target_generator=dict(patch_size=4, pool=4),
    compile_step=False,  # compiling would take longer than it saves
)
