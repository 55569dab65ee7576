"""An energy of the masked patches of an image and of their edges, given the other 25 %: for features.

bash tools/dist_train.sh \
    configs/recipe/energy-inpainting16-75-hog_vit-small-p16_8xb512-amp-coslr-100e_in1k.py 8

Paper: no row, this is ours. Batch size, learning rate and initial weights are MAE's, so that it compares with
configs/baselines/mae_vit-small-p16_8xb512-amp-coslr-100e_in1k.py. The histograms of oriented gradients are
MaskFeat's. Not yet measured here; what it is worth on small images: docs/small_data.md.
"""

_base_ = [
    '../_base_/models/inpainting_vit-small-p16.py',
    '../_base_/datasets/imagenet_bs32.py',
    '../_base_/schedules/adamw_bs256_100e.py',
    '../_base_/default_runtime.py',
]
default_hooks = dict(position_embedding=dict(type='SinCosPositionEmbeddingHook'))
optim_wrapper = dict(
    optimizer=dict(lr=1.5e-4 * 4096 / 256),
    paramwise_cfg=dict(custom_keys=dict(pos_embed=dict(lr_mult=0.0))),
)
auto_scale_lr = dict(base_batch_size=4096)
corruption = dict(type='GriddedMask', patch_size=16, ratio=0.75)
train_dataloader = dict(
    batch_size=512, dataset=dict(pipeline=[*_base_.train_augmentation, corruption, _base_.pack])
)
val_dataloader = dict(
    dataset=dict(pipeline=[*_base_.val_preparation, dict(**corruption, seed=0), _base_.pack])
)
test_dataloader = val_dataloader
