"""MMPretrain's MAE.

MMPretrain's recipe, batch size 4096, on our dataset without labels.

bash tools/dist_train.sh configs/baselines/mae_vit-large-p16_8xb512-amp-coslr-1600e_in1k.py 8

Paper: Table 3, row "MAE 1600 + 100"; ViT-L.
Expect, after finetuning: 85.9 % top-1 (paper, from MAE). Not yet measured here.
"""

_base_ = './mae_vit-base-p16_8xb512-amp-coslr-1600e_in1k.py'

model = dict(backbone=dict(arch='l'), neck=dict(embed_dim=1024))
