# An auto-encoder with ViT-S/16 at 224²: "an auto-encoder architecture as in He et al. (2022)"
# (section 3.1). Decoder: MAE's, and its initialisation. Ours (the paper does not say): squared
# error over all pixels, without norm_pix (MAE's normalisation of each patch, with which nothing is
# learnt of a patch's mean, all that super-resolution leaves).
model = dict(
    type='RestorationAutoEncoder',
    backbone=dict(
        type='VisionTransformer',
        arch='deit-small',
        img_size=224,
        patch_size=16,
        out_type='raw',
    ),
    neck=dict(
        type='MAEPretrainDecoder',
        num_patches=196,
        patch_size=16,
        embed_dim=384,
        decoder_embed_dim=512,
        decoder_depth=8,
        decoder_num_heads=16,
        init_cfg=[
            dict(type='Xavier', layer='Linear', distribution='uniform'),
            dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
        ],
    ),
    head=dict(
        type='MAEPretrainHead',
        norm_pix=False,
        patch_size=16,
        loss=dict(type='PixelReconstructionLoss', criterion='L2'),
    ),
    data_preprocessor=dict(
        type='RestorationDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    ),
)
