"""What keeps patches from being sorted by the pixels at their edges alone (appendix A.2)."""

from collections.abc import Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

# B images, C channels, H × W pixels, gh × gw patches of p × p pixels, L = gh · gw, K of them kept,
# T extra tokens (class token) before those of the patches, D channels of a token.


def mask_edges(images: Tensor, patch_size: int, widths: Tensor) -> Tensor:
    """Set the outermost pixels of each patch to zero.

    Args:
        images: ``(B, C, H, W)``, normalised, so that zero is the mean colour.
        patch_size: p, in pixels.
        widths: k, how many pixels from the border inwards, integers ≥ 0 that broadcast to
            ``(B, gh, gw)``.

    Returns:
        New images, ``(B, C, H, W)``.

    Raises:
        ValueError: H or W is no multiple of p.
    """
    height, width = images.shape[-2:]
    if height % patch_size or width % patch_size:
        raise ValueError(
            f'images of {height} × {width} pixels do not divide into patches of {patch_size} × '
            f'{patch_size}; crop or resize them to a multiple of the patch size'
        )
    gh, gw = height // patch_size, width // patch_size
    along = torch.arange(patch_size, device=images.device)
    to_edge = torch.minimum(along, along.flip(0))  # (p,)
    to_edge = torch.minimum(to_edge[:, None], to_edge)  # (p, p)
    widths = widths.expand(len(images), gh, gw)[:, :, None, :, None]  # (B, gh, 1, gw, 1)
    kept = to_edge[:, None] >= widths  # (p, 1, p) against (B, gh, 1, gw, 1): (B, gh, p, gw, p)
    return images * kept.reshape(-1, 1, height, width)


def random_edge_widths(
    choices: Sequence[int], batch_size: int, grid: tuple[int, int], device: torch.device
) -> Tensor:
    """Draw k for each patch, all ``choices`` equally likely: ``(B, gh, gw)`` integers."""
    drawn = torch.randint(len(choices), (batch_size, *grid), device=device)
    return torch.tensor(choices, device=device)[drawn]


def random_patches(
    batch_size: int, num_patches: int, num_keep: int, device: torch.device
) -> Tensor:
    """Draw which patches of each image are kept: ``(B, K)`` different numbers below L."""
    return torch.rand(batch_size, num_patches, device=device).argsort(1)[:, :num_keep]


def keep_patches(tokens: Tensor, patches: Tensor, num_extra_tokens: int = 0) -> Tensor:
    """Drop the tokens of all other patches.

    Args:
        tokens: ``(B, T + L, D)``.
        patches: numbers of those to keep, ``(B, K)``.
        num_extra_tokens: T, always kept.

    Returns:
        ``(B, T + K, D)``: the extra tokens, then those of ``patches``, in their order.
    """
    extra, of_patches = tokens[:, :num_extra_tokens], tokens[:, num_extra_tokens:]
    index = patches[..., None].expand(-1, -1, tokens.shape[-1])
    return torch.cat([extra, of_patches.gather(1, index)], dim=1)


@contextmanager
def only_patches(backbone: nn.Module, patches: Tensor):
    """Within the block, MMPretrain's vision transformer drops all other patches.

    That happens after patch and position embedding, before the first layer. The backbone is as
    before when the block ends, by an exception too.
    """

    def drop(module: nn.Module, inputs: tuple, tokens: Tensor) -> Tensor:
        return keep_patches(tokens, patches, backbone.num_extra_tokens)

    handle = backbone.drop_after_pos.register_forward_hook(drop)
    try:
        yield
    finally:
        handle.remove()
