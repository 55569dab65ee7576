"""Patch dropout: in training, the transformer layers see a random share of the patches."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import unfold

from ..utils import checked_number
from .position_embedding import (
    check_image_size,
    find_position_embedding,
    first_transformer_layer,
)

# B images, C channels, L patches of ph × pw pixels, K of them kept.


def check_patch_drop_ratio(ratio: float) -> None:
    """Check the share of dropped patches.

    Raises:
        TypeError: it is not a number.
        ValueError: it is not in [0, 1).
    """
    checked_number('patch_drop_ratio', ratio, low=0, below=1)


def check_patch_dropout(backbone: nn.Module, ratio: float) -> None:
    """Refuse a bad share of dropped patches, or a backbone whose patches cannot be dropped.

    Raises:
        ValueError: the share is not in [0, 1); or it is not zero, and the backbone has no absolute
            position embedding, no list of transformer layers, or returns a map of all patches.
    """
    check_patch_drop_ratio(ratio)
    if not ratio:
        return
    try:
        first_transformer_layer(backbone)
    except ValueError as error:
        raise ValueError(f'patch_drop_ratio={ratio} is not possible: {error}') from error
    if getattr(backbone, 'out_type', None) == 'featmap':
        raise ValueError(
            "the backbone's out_type='featmap' needs all patches: with patch_drop_ratio="
            f"{ratio}, set out_type='avg_featmap' or 'cls_token'"
        )


def kept_patches(noise: Tensor, drop_ratio: float) -> Tensor:
    """The numbers of the patches that are kept, from independent uniform noise.

    Args:
        noise: ``(B, L)``.
        drop_ratio: in [0, 1); of L patches, ``int(L · drop_ratio)`` are dropped.

    Returns:
        ``(B, K)``, ascending.
    """
    num_kept = noise.shape[1] - int(noise.shape[1] * drop_ratio)
    return noise.argsort(dim=1)[:, :num_kept].sort(dim=1).values


class PatchSelection:
    """Show the transformer layers of a backbone some of the patches, within a context.

    Extra tokens (class token) are always kept, and all patches are embedded. The hook on the
    first layer stays where it is, as the compiler cannot trace one that comes and goes.

    Args:
        backbone: a vision transformer with an absolute position embedding.

    Attributes:
        kept: the numbers of the patches, row by row, that the layers see, ``(B, K)``; None outside
            of a context, where they see all.

    Raises:
        ValueError: the backbone has no absolute position embedding or no list of layers.
    """

    def __init__(self, backbone: nn.Module):
        self.backbone = backbone
        self.kept: Tensor | None = None
        found = find_position_embedding(backbone)
        self.num_patches = found.grid[0] * found.grid[1]
        self.patch_size = found.patch_size
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
        extra = tokens.shape[1] - self.num_patches
        patches = tokens[:, extra:].take_along_dim(self.kept[..., None], dim=1)
        return (torch.cat([tokens[:, :extra], patches], dim=1), *others)


class PatchDropout(PatchSelection):
    """In training, show the transformer layers of a backbone a random share of the patches.

    Args:
        backbone: any module where the ratio is 0, else see :func:`check_patch_dropout`.
        ratio: the share that is dropped, in [0, 1).

    Raises:
        ValueError: see :func:`check_patch_dropout`.
    """

    def __init__(self, backbone: nn.Module, ratio: float):
        check_patch_dropout(backbone, ratio)
        self.ratio = ratio
        if ratio:
            super().__init__(backbone)
        else:
            self.kept = None

    @contextmanager
    def only(self, kept: Tensor) -> Iterator[None]:
        """As :meth:`PatchSelection.only`; without dropout, the layers see all of them."""
        if self.ratio:
            with super().only(kept):
                yield
        else:
            yield

    @contextmanager
    def drawn(self, images: Tensor, last: Tensor | None = None) -> Iterator[None]:
        """Within the context, drop patches of these images ``(B, C, gh · ph, gw · pw)``.

        Args:
            images: of which only number and size matter.
            last: patches ``(B, L)``, bool, that are dropped only when no others are left.

        Raises:
            ValueError: patches are to be dropped, and the images are not of the size that the
                backbone was built for.
        """
        if self.ratio:
            check_image_size(self.backbone, images)
            noise = torch.rand(len(images), self.num_patches, device=images.device)
            if last is not None:
                noise = noise - last.to(noise)  # small noise is kept
            with self.only(kept_patches(noise, self.ratio)):
                yield
        else:
            yield

    def of_kept(self, patches: Tensor) -> Tensor:
        """Of a value for each patch ``(B, L)``, those of the kept ones ``(B, K)``."""
        return patches if self.kept is None else patches.gather(1, self.kept)

    @property
    def share(self) -> float:
        """K / L, of the patches that are kept; 1 outside of a context."""
        return 1.0 if self.kept is None else self.kept.shape[1] / self.num_patches

    def pixels(self, images: Tensor) -> Tensor:
        """The pixels of the kept patches: ``(B, C, H, W)`` → ``(B, K, C · ph · pw)``.

        Outside of a context, these are the images.
        """
        if self.kept is None:
            return images
        patches = unfold(images, self.patch_size, stride=self.patch_size).mT  # (B, L, C · ph · pw)
        return patches.take_along_dim(self.kept[..., None], dim=1)
