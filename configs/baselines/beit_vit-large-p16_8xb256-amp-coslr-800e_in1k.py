"""MMPretrain's BEiT.

MMPretrain's recipe for 300 epochs, batch size 2048, on our dataset without labels, for 800 epochs.
The tokenizer's weights are downloaded. To use a local file instead:
--cfg-options model.target_generator.init_cfg.checkpoint=PATH
The initial layer scale is BEiT's for ViT-L.

bash tools/dist_train.sh configs/baselines/beit_vit-large-p16_8xb256-amp-coslr-800e_in1k.py 8

Paper: Table 3, row "BEiT 800 + 100"; ViT-L.
Expect, after finetuning: 85.2 % top-1 (paper, from BEiT). Not yet measured here.
"""

_base_ = './beit_vit-base-p16_8xb256-amp-coslr-800e_in1k.py'

model = dict(backbone=dict(arch='large', layer_scale_init_value=1e-5), head=dict(embed_dims=1024))
