# A ViT for 32² images, 64 patches of 4² (2.7 M parameters), and its energy.
model = dict(
    type='EnergyRestorationAlgorithm',
    backbone=dict(
        type='VisionTransformer',
        arch=dict(embed_dims=192, num_layers=6, num_heads=3, feedforward_channels=768),
        img_size=32,
        patch_size=4,
        out_type='avg_featmap',
        final_norm=False,
    ),
    head=dict(type='EnergyHead', in_channels=192),
    num_steps=2,
    data_preprocessor=dict(
        type='SelfSupDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    ),
)
