"""Patch dropout: in training, the transformer layers see a random share of the patches."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import unfold

from ..utils import checked_number
from .position_embedding import find_position_embedding, first_transformer_layer

# B images, C channels, L patches of ph × pw pixels, K of them kept.


def check_patch_dropout(backbone: nn.Module, ratio: float) -> None:
    """Refuse a bad share of dropped patches, or a backbone whose patches cannot be dropped.

    Raises:
        TypeError, ValueError: the share is not in [0, 1); or it is not zero, and the backbone has
            no absolute position embedding, no list of layers, or returns a map of all patches.
    """
    checked_number('patch_drop_ratio', ratio, low=0, below=1)
    if not ratio:
        return
    try:
        first_transformer_layer(backbone)
    except ValueError as error:
        raise ValueError(f'patch_drop_ratio={ratio} is not possible: {error}') from error
    if getattr(backbone, 'out_type', None) == 'featmap':
        raise ValueError(
            f"the backbone's out_type='featmap' needs all patches: with patch_drop_ratio={ratio}, "
            "set out_type='avg_featmap' or 'cls_token'"
        )


def kept_patches(noise: Tensor, drop_ratio: float) -> Tensor:
    """The numbers ``(B, K)``, ascending, of patches to keep, from uniform noise ``(B, L)``.

    Of L patches, ``int(L · drop_ratio)`` are dropped.
    """
    num_kept = noise.shape[1] - int(noise.shape[1] * drop_ratio)
    return noise.argsort(dim=1)[:, :num_kept].sort(dim=1).values


def pixels_of_patches(images: Tensor, numbers: Tensor, patch_size: tuple[int, int]) -> Tensor:
    """Pixels ``(B, K, C · ph · pw)`` of the patches of images with these numbers ``(B, K)``."""
    patches = unfold(images, patch_size, stride=patch_size).mT  # (B, L, C · ph · pw)
    return patches.take_along_dim(numbers[..., None], dim=1)


class PatchSelection:
    """Show the transformer layers of a backbone some of the patches, within a context.

    Extra tokens (class token) are always kept, and all patches are embedded. The hook on the
    first layer stays where it is, as the compiler cannot trace one that comes and goes.

    Args:
        backbone: a vision transformer with an absolute position embedding.

    Attributes:
        kept: the numbers of the patches, row by row, that the layers see, ``(B, K)``; None outside
            of a context, where they see all.
        total: L.

    Raises:
        ValueError: the backbone has no absolute position embedding or no list of layers.
    """

    def __init__(self, backbone: nn.Module):
        self.kept: Tensor | None = None
        self.total = find_position_embedding(backbone).num_patches
        first_transformer_layer(backbone).register_forward_pre_hook(self._select)

    @contextmanager
    def only(self, kept: Tensor) -> Iterator[None]:
        """Within the context, the layers see these patches: their numbers, ``(B, K)``."""
        self.kept = kept
        try:
            yield
        finally:
            self.kept = None

    def _select(self, module: nn.Module, args: tuple) -> tuple:
        if self.kept is None:
            return args
        tokens, *others = args  # (B, T + L, D)
        extra = tokens.shape[1] - self.total
        patches = tokens[:, extra:].take_along_dim(self.kept[..., None], dim=1)
        return (torch.cat([tokens[:, :extra], patches], dim=1), *others)
