"""Keeps patches from being sorted by the pixels at their edges alone (appendix A.2)."""

from collections.abc import Sequence

import torch
from mmpretrain.structures import DataSample
from torch import Tensor

from ..datasets import derive_seeds

# B images, C channels, gh × gw patches of ph × pw pixels, L = gh · gw of them.


def intact_images(inputs: Tensor | Sequence[Tensor]) -> Tensor:
    """The images ``(B, C, H, W)`` of a pipeline without a corruption, which may be in a list.

    Raises:
        TypeError: there are several.
    """
    if isinstance(inputs, Tensor):
        return inputs
    if len(inputs) != 1:
        raise TypeError(
            f'inputs must be the images alone, one tensor (B, C, H, W), got {len(inputs)} of them: '
            'sorting needs no corruption in the pipeline'
        )
    return inputs[0]


def check_edge_widths(widths: Sequence[int], patch_size: tuple[int, int]) -> None:
    """Refuse widths of masked edges that leave no pixel of a patch.

    Raises:
        TypeError, ValueError: they are not integers ≥ 0, there are none, or one is too wide.
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


def mask_patch_edges(images: Tensor, widths: Tensor, patch_size: tuple[int, int]) -> Tensor:
    """Zero the outermost pixels of each patch.

    Args:
        images: ``(B, C, gh · ph, gw · pw)``, normalised, so that zero is the mean colour.
        widths: k, how many pixels on each side, row by row, ``(B, L)``, integers ≥ 0.
        patch_size: ``(ph, pw)``.
    """
    (height, width), (ph, pw) = images.shape[-2:], patch_size
    widths = widths.reshape(-1, height // ph, 1, width // pw, 1)
    # of each pixel, how many lie between it and the border of its patch
    rows, columns = (
        torch.minimum(along, along.flip(0))
        for along in (torch.arange(size, device=images.device) for size in patch_size)
    )
    depth = torch.minimum(rows[:, None], columns)  # (ph, pw)
    masked = depth[:, None] < widths  # (B, gh, ph, gw, pw)
    return images.masked_fill(masked.reshape(-1, 1, height, width), 0)


def drawn_widths(noise: Tensor, widths: Tensor) -> Tensor:
    """Draw one of some widths for each patch, all equally likely, by uniform noise in [0, 1)."""
    return widths[(noise * len(widths)).long()]


def validation_noise(
    num_images: int, num_patches: int, data_samples: Sequence[DataSample] | None = None
) -> Tensor:
    """Uniform noise that depends on the ``sample_idx`` of each image only.

    Args:
        num_images: B.
        num_patches: L.
        data_samples: B samples with ``sample_idx``; None numbers the images from 0.

    Returns:
        ``(B, 2, L)`` on the CPU: for an order of the patches, and for their edge widths.

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
