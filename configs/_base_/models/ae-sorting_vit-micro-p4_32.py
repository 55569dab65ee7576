# An auto-encoder with the ViT for 32² images that predicts the position of each patch; the decoder is
# that of ae_vit-micro-p4_32.py. Ours: k = 0 and 1 masked pixels, 50 % each, because k = 2 leaves
# nothing of a patch of 4².
_base_ = './ae-sorting_vit-small-p16.py'

model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True, embed_dims=192, num_layers=6, num_heads=3, feedforward_channels=768
        ),
        img_size=32,
        patch_size=4,
    ),
    neck=dict(
        num_positions=64,
        embed_dim=192,
        decoder_embed_dim=128,
        decoder_depth=4,
        decoder_num_heads=4,
    ),
    edge_widths=(0, 1),
)
