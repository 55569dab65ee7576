# An auto-encoder with ViT-S/16 at 224² that predicts the position of each patch (section 3.1,
# "Learning from sorting"). Decoder: as large as MAE's and initialised like it, without its position
# embedding (ours: the paper says "lightweight"). Regularisation: appendix A.2.
model = dict(
    type='SortingAutoEncoder',
    backbone=dict(
        type='VisionTransformer',
        arch='deit-small',
        img_size=224,
        patch_size=16,
        out_type='raw',
    ),
    neck=dict(
        type='PositionDecoder',
        num_positions=196,
        embed_dim=384,
        decoder_embed_dim=512,
        decoder_depth=8,
        decoder_num_heads=16,
        init_cfg=[
            dict(type='Xavier', layer='Linear', distribution='uniform'),
            dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
        ],
    ),
    edge_widths=(1, 2),
    patch_drop_ratio=0.5,
    data_preprocessor=dict(
        type='SelfSupDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    ),
)
