"""MMPretrain's SimMIM with Swin-B at 192².

MMPretrain's recipe, batch size 2048, on our dataset without labels.

bash tools/dist_train.sh configs/baselines/simmim_swin-base-w6_8xb256-amp-coslr-100e_in1k-192px.py 8

Paper: no row. Not yet measured here.
"""

_base_ = [
    'mmpretrain::simmim/simmim_swin-base-w6_8xb256-amp-coslr-100e_in1k-192px.py',
    '../_base_/bundled_in1k.py',
]

train_dataloader = dict(
    dataset=dict(_delete_=True, **_base_.imagenet, pipeline=_base_.train_pipeline),
    collate_fn=dict(_delete_=True, type='default_collate'),
)
optim_wrapper = dict(type='MixedPrecisionOptimWrapper')
