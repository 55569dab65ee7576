"""UperNet on a pretrained ViT-B, ADE20K at 512², 160,000 iterations.

PRETRAINED=FILE bash tools/dist_train.sh configs/segmentation/upernet_vit-base-p16_8xb2-amp-polylr-160k_ade20k-512px.py 8 --work-dir work_dirs/ROW/segmentation

Any checkpoint that finetune_vit-base takes or writes; the log says how many tensors it filled. The position embedding is resized from 14² to 32² patches.

Ours, because the paper names neither decoder nor recipe: UperNet with MMSegmentation's recipe for MAE, the
best of Table 7: blocks 4, 6, 8 and 12, rescaled to a pyramid, layer-wise decay 0.65,
drop path 0.1, tested in windows of 512 every 341 pixels. No layer scale, which was not pretrained.

Paper: Table 7, row "Ours". Expect 47.7 mIoU with "Mixed" (paper); MAE 48.1, BEiT 47.1. Not yet measured here.
"""

_base_ = [
    '../_base_/models/upernet.py',
    '../_base_/datasets/ade20k_bs2.py',
    '../_base_/schedules/adamw_bs16_160k_segmentation.py',
    '../_base_/segmentation_runtime.py',
]

model = dict(
    backbone=dict(
        type='mmpretrain.VisionTransformer',
        arch='base',
        img_size=512,
        patch_size=16,
        drop_path_rate=0.1,
        out_indices=[3, 5, 7, 11],
        out_type='featmap',
        final_norm=False,
    ),
    neck=dict(
        type='Feature2Pyramid',
        embed_dim=768,
        rescales=[4, 2, 1, 0.5],
        norm_cfg=_base_.norm_cfg,
    ),
    decode_head=dict(in_channels=[768, 768, 768, 768], channels=768),
    auxiliary_head=dict(in_channels=768),
)
