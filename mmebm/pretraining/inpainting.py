"""What an energy of masked patches needs beside the backbone: a head and targets that fit it."""

from mmpretrain.registry import MODELS

from .network import Network, unpooled

MASKED_SHARE = 0.75  # of the patches, as MAE's
LARGE_IMAGE = 128  # pixels of a side, from which on heads are larger
LARGE_WIDTH = 768  # channels of the backbone, likewise; ours


def inpainting_model(network: Network) -> dict:
    """Type, network and targets of ``energy-inpainting-hog``, for the config of an energy.

    Args:
        network: a vision transformer.

    Raises:
        ValueError: it is another network.
    """
    size, width = network.patch_size, network.in_channels
    if size is None or size == network.image_size:
        raise ValueError(
            f'energy inpainting cannot train {network.name} on images of {network.image_size} × '
            f'{network.image_size} pixels: it needs a vision transformer, such as '
            'timm/vit_small_patch16_224, with several square patches that cover the image, a '
            'position embedding for each, and a multiple of 4 channels'
        )
    channels, layers, heads = 128, 2, 4
    if network.image_size >= LARGE_IMAGE:
        channels, layers, heads = (512, 4, 16) if width >= LARGE_WIDTH else (256, 4, 8)
    cells = 2 if size >= 8 and size % 2 == 0 else 1  # in a row; of at least 16 pixels each
    generator = dict(type='PatchHOG', patch_size=size, pool=size // cells)
    head = dict(
        type='PatchEnergyHead',
        in_channels=width,
        grid=network.image_size // size,
        patch_size=size,
        embed_dims=channels,
        num_layers=layers,
        num_heads=heads,
        extra_values=MODELS.build(generator).values,
    )
    return dict(
        type='EnergyInpaintingAlgorithm',
        backbone=unpooled(network.config),
        head=head,
        target_generator=generator,
        norm_pix=True,
    )
