"""Finetuning the pretrained ViT of 0.5 M parameters, 32² images, 40 epochs.

Any pretraining config of this backbone.

DATA_ROOT=data/cifar10 PRETRAINED=FILE python tools/train.py \
    configs/small/finetune_vit-mini-p4_1xb128-amp-coslr-40e_small32.py --work-dir work_dirs/ROW/finetuning

Paper: no row; an arm of the comparison in docs/small_data.md. Not yet measured here.
"""

_base_ = './finetune_vit-micro-p4_1xb128-amp-coslr-40e_small32.py'

model = dict(
    backbone=dict(arch=dict(embed_dims=96, num_layers=4, feedforward_channels=384)),
    head=dict(in_channels=96),
)
