# A ViT for 32² images, 64 patches of 4² (2.7 M parameters), and its energy.
_base_ = './energy_vit-small-p16.py'

model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True, embed_dims=192, num_layers=6, num_heads=3, feedforward_channels=768
        ),
        img_size=32,
        patch_size=4,
    ),
    head=dict(in_channels=192),
    compile_step=False,  # compiling would take longer than it saves
)
