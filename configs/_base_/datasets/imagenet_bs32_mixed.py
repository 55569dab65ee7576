# ImageNet-1K, one of masking, super-resolution, denoising and colorization per image (section 3.2).
_base_ = './imagenet_bs32.py'

# Ours, since the paper does not say which masks and which scale the mixture has: those that were best
# alone in Tables 1 and 2.
corruption = dict(
    type='MixedCorruption',
    corruptions=[
        dict(
            type='RandomBlockMask',
            num_blocks=25,
            area_range=(0.02, 0.05),
            aspect_range=(0.5, 2.0),
        ),
        dict(type='SuperResolution', scale=16),
        dict(type='GaussianNoise', gamma_range=(0.0, 1.0)),
        dict(type='Colorization'),
    ],
)
train_dataloader = dict(
    dataset=dict(
        pipeline=[*_base_.train_augmentation, dict(**corruption, on_device=True), _base_.pack]
    )
)
val_dataloader = dict(
    dataset=dict(pipeline=[*_base_.val_preparation, dict(**corruption, seed=0), _base_.pack])
)
test_dataloader = val_dataloader
