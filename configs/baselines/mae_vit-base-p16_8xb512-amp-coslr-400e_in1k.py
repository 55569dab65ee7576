"""MMPretrain's MAE.

MMPretrain's recipe, batch size 4096, on our dataset without labels.

bash tools/dist_train.sh configs/baselines/mae_vit-base-p16_8xb512-amp-coslr-400e_in1k.py 8

Paper: Tables 3 and 5, row "MAE 400 + 100"; ViT-B.
Expect, after finetuning for 100 epochs: 83.1 % top-1 (paper). Not yet measured here.
Duration: 72 hours on 8 GPUs (paper, Table 5).
"""

_base_ = [
    'mmpretrain::mae/mae_vit-base-p16_8xb512-amp-coslr-400e_in1k.py',
    '../_base_/bundled_in1k.py',
]

train_dataloader = dict(
    dataset=dict(_delete_=True, **_base_.imagenet, pipeline=_base_.train_pipeline),
    collate_fn=dict(_delete_=True, type='default_collate'),
)
optim_wrapper = dict(type='MixedPrecisionOptimWrapper')
resume = False  # MMPretrain's MAE resumes by default
