"""UperNet on a ViT-B pretrained by BEiT, ADE20K at 512², 160,000 iterations.

PRETRAINED=FILE bash tools/dist_train.sh configs/segmentation/upernet_beit-base-p16_8xb2-amp-polylr-160k_ade20k-512px.py 8 --work-dir work_dirs/ROW/segmentation

A checkpoint of MMPretrain's BEiT, whose network has layer scales and, in place of the position
embedding, relative position biases; they are resized from 14² to 32² patches.

Ours: the recipe of the other methods.

Paper: Table 7, row "BEiT". Expect 47.1 mIoU (published, Table 7). Not yet measured here.
"""

_base_ = './upernet_vit-base-p16_8xb2-amp-polylr-160k_ade20k-512px.py'

model = dict(backbone=dict(type='mmpretrain.BEiTViT'))
