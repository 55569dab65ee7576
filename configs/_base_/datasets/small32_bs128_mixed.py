# Images of 32², one of masking, super-resolution, denoising and colorization per image.
_base_ = './small32_bs128.py'

# Ours: the masks and the scale of the small configs with a single task.
corruption = dict(
    type='MixedCorruption',
    corruptions=[
        dict(type='GriddedMask', patch_size=4, ratio=0.5),
        dict(type='SuperResolution', scale=4),
        dict(type='GaussianNoise', gamma_range=(0.0, 1.0)),
        dict(type='Colorization'),
    ],
)
train_dataloader = dict(
    dataset=dict(pipeline=[*_base_.train_augmentation, corruption, _base_.pack])
)
val_dataloader = dict(
    dataset=dict(pipeline=[*_base_.val_preparation, dict(**corruption, seed=0), _base_.pack])
)
test_dataloader = val_dataloader
