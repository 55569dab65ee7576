"""UperNet on a ResNet-50 of timm, ADE20K at 512², 160,000 iterations.

PRETRAINED=FILE bash tools/dist_train.sh configs/segmentation/upernet_timm-resnet50_8xb2-amp-polylr-160k_ade20k-512px.py 8 --work-dir work_dirs/ROW/segmentation

For the checkpoint.pth of `mmebm pretrain --backbone timm/resnet50`. Other networks of timm: their
name, and the channels of their maps; names of tensors differ in some, which then start from an
export (docs/checkpoints.md).

Ours: the settings of ConvNeXt-T without layer-wise decay, tested on whole images.

Paper: no row (Table 7 has ViT-B). Not yet measured here.
"""

_base_ = './upernet_convnext-tiny_8xb2-amp-polylr-160k_ade20k-512px.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.TIMMBackbone',
        model_name='resnet50',
        features_only=True,
        out_indices=(1, 2, 3, 4),
    ),
    decode_head=dict(in_channels=[256, 512, 1024, 2048]),
    auxiliary_head=dict(in_channels=1024),
    test_cfg=dict(_delete_=True, mode='whole'),
)
optim_wrapper = dict(
    constructor='DefaultOptimWrapperConstructor',
    paramwise_cfg=dict(_delete_=True, norm_decay_mult=0.0, bias_decay_mult=0.0),
)
