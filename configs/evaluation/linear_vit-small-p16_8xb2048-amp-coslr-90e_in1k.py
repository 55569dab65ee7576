"""Linear probe: a linear classifier on the frozen ViT-S, ImageNet, 90 epochs.

PRETRAINED=FILE bash tools/dist_train.sh configs/evaluation/linear_vit-small-p16_8xb2048-amp-coslr-90e_in1k.py 8 --work-dir work_dirs/ROW/linear

Any checkpoint that finetune_vit-small takes. MMPretrain's recipe for MAE; ours: the averaged patches in
place of the class token, and bicubic crops.

Paper: no row (it reports lower linear accuracy than contrastive methods, without numbers).
Not yet measured here.
"""

_base_ = [
    '../_base_/models/linear_vit-small-p16.py',
    '../_base_/datasets/imagenet_bs2048_linear.py',
    '../_base_/schedules/lars_bs16384_90e_linear.py',
    '../_base_/pretrained_runtime.py',
]
