"""MMPretrain's BEiT.

MMPretrain's recipe for 300 epochs, batch size 2048, on our dataset without labels, for 800 epochs.
The tokenizer's weights are downloaded. To use a local file instead:
--cfg-options model.target_generator.init_cfg.checkpoint=PATH

bash tools/dist_train.sh configs/baselines/beit_vit-base-p16_8xb256-amp-coslr-800e_in1k.py 8

Paper: Table 3, row "BEiT 800 + 100"; ViT-B.
Expect, after finetuning for 100 epochs: 83.2 % top-1 (paper, from BEiT). Not yet measured here.
"""

_base_ = [
    'mmpretrain::beit/beit_beit-base-p16_8xb256-amp-coslr-300e_in1k.py',
    '../_base_/bundled_in1k.py',
]

train_dataloader = dict(
    dataset=dict(_delete_=True, **_base_.imagenet, pipeline=_base_.train_pipeline),
    collate_fn=dict(_delete_=True, type='default_collate'),
)
optim_wrapper = dict(type='MixedPrecisionOptimWrapper')
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=10, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        T_max=790,
        eta_min=1e-5,
        begin=10,
        end=800,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=800)
