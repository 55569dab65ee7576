# The ViT for 32² images of energy_vit-micro-p4_32.py, and an energy of masked patches given the
# others. The head has a third of the layers of that ViT (0.5 M parameters); it is left behind.
_base_ = './energy_vit-micro-p4_32.py'

model = dict(
    type='EnergyInpaintingAlgorithm',
    backbone=dict(out_type='raw', final_norm=True),  # as MAE's
    head=dict(
        _delete_=True,
        type='PatchEnergyHead',
        in_channels=192,
        grid=32 // 4,
        patch_size=4,
        embed_dims=128,
        num_layers=2,
        num_heads=4,
    ),
    norm_pix=True,  # as MAE's
    num_steps=1,
)
