"""UperNet on a pretrained ConvNeXt-T, ADE20K at 512², 160,000 iterations.

PRETRAINED=FILE bash tools/dist_train.sh configs/segmentation/upernet_convnext-tiny_8xb2-amp-polylr-160k_ade20k-512px.py 8 --work-dir work_dirs/ROW/segmentation

A checkpoint of a pretrained or finetuned ConvNeXt-T; the norms of the first three stages, which it
does not have, keep their initial values, and the log lists them.

Ours: MMSegmentation's recipe for ConvNeXt-T, except that the learning rate decays by layer (0.9 for
each of MMPretrain's eight depths) instead of by stage.

Paper: no row (Table 7 has ViT-B). Not yet measured here.
"""

_base_ = [
    '../_base_/models/upernet.py',
    '../_base_/datasets/ade20k_bs2.py',
    '../_base_/schedules/adamw_bs16_160k_segmentation.py',
    '../_base_/segmentation_runtime.py',
]

model = dict(
    backbone=dict(
        type='mmpretrain.ConvNeXt',
        arch='tiny',
        drop_path_rate=0.4,
        out_indices=[0, 1, 2, 3],
        gap_before_final_norm=False,
    ),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.9))
