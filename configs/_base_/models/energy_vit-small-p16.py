# ViT-S/16 at 224² and its energy. The features are averaged over the patches and normalised once, as
# MAE does in finetuning (ours: the paper does not say how ψ ends), so that what is pretrained is
# what is finetuned.
model = dict(
    type='EnergyRestorationAlgorithm',
    backbone=dict(
        type='VisionTransformer',
        arch='deit-small',
        img_size=224,
        patch_size=16,
        out_type='avg_featmap',
        final_norm=False,
    ),
    head=dict(type='EnergyHead', in_channels=384),
    num_steps=2,
    compile_step='gpu',  # on a CPU it would take minutes; True asks for it there, too
    data_preprocessor=dict(
        type='RestorationDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    ),
)
