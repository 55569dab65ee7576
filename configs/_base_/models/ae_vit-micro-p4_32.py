# An auto-encoder with the ViT for 32² images of energy_vit-micro-p4_32.py. Ours: a decoder of 0.8 M
# parameters; MAE's, made for 224², would have ten times as many as this encoder.
_base_ = './ae_vit-small-p16.py'

model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True, embed_dims=192, num_layers=6, num_heads=3, feedforward_channels=768
        ),
        img_size=32,
        patch_size=4,
    ),
    neck=dict(
        num_patches=64,
        patch_size=4,
        embed_dim=192,
        decoder_embed_dim=128,
        decoder_depth=4,
        decoder_num_heads=4,
    ),
    head=dict(patch_size=4),
)
