# ViT-S/16 at 224² and an energy of masked patches given the others. The backbone ends as MAE's encoder
# does. The head (3.5 M parameters) is left behind; ours: its size, and that it is given each patch's edges, too.
_base_ = './energy_vit-small-p16.py'

model = dict(
    type='EnergyInpaintingAlgorithm',
    backbone=dict(out_type='raw', final_norm=True),
    head=dict(
        _delete_=True,
        type='PatchEnergyHead',
        in_channels=384,
        grid=224 // 16,
        patch_size=16,
        embed_dims=256,
        num_layers=4,
        num_heads=8,
        extra_values=108,  # 9 angles, 3 colours, 4 cells
    ),
    target_generator=dict(type='PatchHOG', patch_size=16, pool=8),
    norm_pix=True,  # as MAE's; pictures and PSNR then borrow mean and variance of the clean patches
    num_steps=1,
)
