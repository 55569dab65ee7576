"""Keeps patches from being sorted by the pixels at their edges alone (appendix A.2)."""

from collections.abc import Sequence

import torch
from mmpretrain.structures import DataSample
from torch import Tensor

from ..datasets import derive_seeds

# B images, C channels, gh × gw patches of ph × pw pixels, L = gh · gw of them.


def check_edge_widths(widths: Sequence[int], patch_size: tuple[int, int]) -> None:
    """Refuse widths of masked edges that leave no pixel of a patch.

    Raises:
        TypeError: they are not integers, or there are none.
        ValueError: one is negative, or too wide for the patches.
    """
    limit = (min(patch_size) - 1) // 2
    whole = isinstance(widths, Sequence) and all(type(k) is int for k in widths)
    if not whole or not widths:
        raise TypeError(f'edge_widths must be a sequence of integers ≥ 0, got {widths!r}')
    if not all(0 <= k <= limit for k in widths):
        raise ValueError(
            f'edge_widths must be within 0..{limit}, to leave pixels in patches of '
            f'{patch_size[0]} × {patch_size[1]}, got {tuple(widths)}'
        )


def mask_random_edges(
    images: Tensor, noise: Tensor, edge_widths: Tensor, patch_size: tuple[int, int]
) -> Tensor:
    """Mask the edges of the patches, as wide as noise says: each width equally likely.

    Args:
        images: ``(B, C, gh · ph, gw · pw)``, normalised.
        noise: for each patch, row by row, independent and uniform in [0, 1), ``(B, L)``.
        edge_widths: those to draw from, integers ≥ 0.
        patch_size: ``(ph, pw)``.

    Returns:
        New images of the same shape.
    """
    grid = [pixels // size for pixels, size in zip(images.shape[-2:], patch_size, strict=True)]
    widths = edge_widths[(noise * len(edge_widths)).long()]  # (B, L)
    return mask_patch_edges(images, widths.reshape(-1, *grid), patch_size)


def mask_patch_edges(images: Tensor, widths: Tensor, patch_size: tuple[int, int]) -> Tensor:
    """Zero the outermost pixels of each patch.

    Args:
        images: ``(B, C, gh · ph, gw · pw)``, normalised, so that zero is the mean colour.
        widths: k, how many pixels on each side, ``(B, gh, gw)``, integers ≥ 0.
        patch_size: ``(ph, pw)``.

    Returns:
        New images of the same shape.

    Raises:
        ValueError: the images are not of that size.
    """
    (gh, gw), (ph, pw) = widths.shape[1:], patch_size
    if images.shape[-2:] != (gh * ph, gw * pw):
        raise ValueError(
            f'images must have {gh * ph} × {gw * pw} pixels, {gh} × {gw} patches of {ph} × {pw}, '
            f'got {images.shape[-2]} × {images.shape[-1]}'
        )
    # of each pixel, how many lie between it and the border of its patch
    rows, columns = (
        torch.minimum(along, along.flip(0))
        for along in (torch.arange(size, device=images.device) for size in patch_size)
    )
    depth = torch.minimum(rows[:, None], columns)  # (ph, pw)
    masked = depth[:, None] < widths[:, :, None, :, None]  # (B, gh, ph, gw, pw)
    return images.masked_fill(masked.reshape(len(images), 1, gh * ph, gw * pw), 0)


def validation_noise(
    num_images: int, num_patches: int, data_samples: Sequence[DataSample] | None = None
) -> Tensor:
    """Uniform noise that depends on the ``sample_idx`` of each image only.

    Args:
        num_images: B.
        num_patches: L.
        data_samples: B samples with ``sample_idx``; None numbers the images from 0.

    Returns:
        ``(B, 2, L)``, on the CPU: for an order of the patches, and for their edge widths.

    Raises:
        ValueError: a sample has no ``sample_idx``.
    """
    numbers: Sequence[int | None] = range(num_images)
    if data_samples is not None:
        numbers = [sample.get('sample_idx') for sample in data_samples]
    if None in numbers:
        raise ValueError(
            'sorting needs the sample_idx of each image, to shuffle it the same way each time: '
            "PackInputs(meta_keys=('sample_idx', ...)) passes it on"
        )
    generators = (torch.Generator().manual_seed(derive_seeds(int(n))[2]) for n in numbers)
    return torch.stack([torch.rand((2, num_patches), generator=g) for g in generators])
