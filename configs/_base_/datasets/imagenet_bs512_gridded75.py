# ImageNet-1K for the recipe: 8 GPUs × 512 images, three quarters of the cells of 16 × 16 pixels masked.
_base_ = './imagenet_bs32.py'

corruption = dict(type='GriddedMask', patch_size=16, ratio=0.75)
train_dataloader = dict(
    batch_size=512, dataset=dict(pipeline=[*_base_.train_augmentation, corruption, _base_.pack])
)
val_dataloader = dict(
    dataset=dict(pipeline=[*_base_.val_preparation, dict(**corruption, seed=0), _base_.pack])
)
test_dataloader = val_dataloader
