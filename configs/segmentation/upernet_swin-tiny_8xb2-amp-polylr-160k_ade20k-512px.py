"""UperNet on a pretrained Swin-T, ADE20K at 512², 160,000 iterations.

PRETRAINED=FILE bash tools/dist_train.sh configs/segmentation/upernet_swin-tiny_8xb2-amp-polylr-160k_ade20k-512px.py 8 --work-dir work_dirs/ROW/segmentation

A checkpoint of a pretrained or finetuned Swin-T; the norms of the first three stages, which it does
not have, keep their initial values, and the log lists them.

Ours: MMSegmentation's recipe for Swin-T (no layer-wise decay, tested on whole images), in mixed
precision, and without weight decay on all biases.

Paper: no row (Table 7 has ViT-B). Not yet measured here.
"""

_base_ = './upernet_convnext-tiny_8xb2-amp-polylr-160k_ade20k-512px.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.SwinTransformer',
        arch='tiny',
        drop_path_rate=0.3,
        out_indices=(0, 1, 2, 3),
        pad_small_map=True,
    ),
    test_cfg=dict(_delete_=True, mode='whole'),
)
optim_wrapper = dict(
    optimizer=dict(lr=6e-5, weight_decay=0.01), paramwise_cfg=dict(layer_decay_rate=1.0)
)
