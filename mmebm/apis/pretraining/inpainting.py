"""What an energy of masked patches needs beside the backbone: a head and targets that fit it."""

import torch
from mmpretrain.registry import MODELS

from .network import Network, refused, unpooled

MASKED_SHARE = 0.75  # of the patches, as MAE's
LARGE_IMAGE, LARGE_WIDTH = 128, 768  # from which on the head is larger; ours


def inpainting_model(network: Network) -> dict:
    """Type, network and targets of ``energy-inpainting-hog``, for the config of an energy.

    Args:
        network: with a ``patch_size``.
    """
    size, width = network.patch_size, network.in_channels
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


def check_inpainting(network: Network) -> None:
    """Try a training step without the masked patches.

    Raises:
        ValueError: the backbone cannot leave patches out; says why.
    """
    if network.patch_size is None:
        raise ValueError(
            'energy inpainting needs a vision transformer with one position embedding per patch, '
            f'such as timm/vit_small_patch16_224; {network.name} has none'
        )
    try:
        model = MODELS.build(inpainting_model(network))
        model.init_weights()
        clean = torch.randn(2, 3, network.image_size, network.image_size)
        corrupted = clean.clone()
        corrupted[..., : network.patch_size, :] = 0.0  # the first row of patches
        model.train().loss([corrupted, clean])['loss'].backward()
    except Exception as error:  # other people's code: it fails in any way
        raise refused(network.name, network.image_size, error) from error
