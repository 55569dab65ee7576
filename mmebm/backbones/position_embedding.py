"""The absolute position embedding of a vision transformer, wherever the backbone keeps it."""

from typing import NamedTuple

import torch
from mmpretrain.models.utils import build_2d_sincos_position_embedding
from torch import Tensor, nn
from torch.func import functional_call

# B batch, L tokens of a (gh, gw) grid of patches, after T extra tokens (class token); D channels.


class PositionEmbedding(NamedTuple):
    """Where a backbone keeps its position embedding.

    Attributes:
        name: of the parameter, as in ``backbone.named_parameters()``.
        value: the parameter, ``(1, T + L, D)``.
        grid: ``(gh, gw)``, rows and columns of patches; L = gh · gw.
        num_extra_tokens: T, tokens before those of the patches.
        patch_size: ``(ph, pw)``, pixels from a patch to the next one below and beside it.
    """

    name: str
    value: nn.Parameter
    grid: tuple[int, int]
    num_extra_tokens: int
    patch_size: tuple[int, int]

    @property
    def num_patches(self) -> int:
        """L."""
        return self.grid[0] * self.grid[1]


def find_position_embedding(backbone: nn.Module) -> PositionEmbedding:
    """Find the absolute position embedding of MMPretrain's and timm's vision transformers.

    It is the one parameter called ``pos_embed``, beside a patch embedding that knows its grid.

    Raises:
        ValueError: there is none (convolutional networks, relative or rotary positions), there are
            several (pyramids), or it is not one embedding per patch.
    """
    found = [n for n, _ in backbone.named_parameters() if n.split('.')[-1] == 'pos_embed']
    if len(found) != 1:
        raise ValueError(
            f'{type(backbone).__name__} has {len(found) or "no"} absolute position embedding'
            f'{"s" if found else ""} (parameters called pos_embed), but one is needed: take a '
            'plain vision transformer, such as VisionTransformer'
        )
    value = backbone.get_parameter(found[0])
    owner = backbone.get_submodule(found[0].rpartition('.')[0])
    patch_embed = getattr(owner, 'patch_embed', None)
    # MMPretrain's names, then timm's
    grid = getattr(patch_embed, 'init_out_size', None) or getattr(patch_embed, 'grid_size', None)
    size = getattr(patch_embed, 'init_input_size', None) or getattr(patch_embed, 'img_size', None)
    if grid is None or size is None or value.dim() != 3 or value.shape[1] < grid[0] * grid[1]:
        raise ValueError(
            f'the position embedding {found[0]} {tuple(value.shape)} of {type(backbone).__name__} '
            f'is not one embedding per patch (1, tokens, channels) of its grid {grid}'
        )
    grid = (int(grid[0]), int(grid[1]))
    return PositionEmbedding(
        name=found[0],
        value=value,
        grid=grid,
        num_extra_tokens=value.shape[1] - grid[0] * grid[1],
        patch_size=_patch_size(patch_embed, size, grid),
    )


def _patch_size(
    patch_embed: nn.Module, size: tuple[int, int], grid: tuple[int, int]
) -> tuple[int, int]:
    convolutions = [m for m in patch_embed.modules() if isinstance(m, nn.Conv2d)]
    if len(convolutions) == 1:  # pixels may be left over at the border
        return tuple(convolutions[0].stride)
    return (size[0] // grid[0], size[1] // grid[1])


def sincos_position_embedding(grid: tuple[int, int], channels: int) -> Tensor:
    """The fixed 2-D sin-cos embedding of MoCo v3 (appendix A.2), ``(gh · gw, D)``, row by row.

    Raises:
        ValueError: the ``channels`` D are not a multiple of 4.
    """
    if channels % 4:
        raise ValueError(
            f'a 2-D sin-cos embedding needs a multiple of 4 channels, the backbone has {channels}'
        )
    # MMPretrain's goes through the grid column by column; transposed, it is row by row
    return build_2d_sincos_position_embedding(grid[::-1], channels)[0]


@torch.no_grad()
def set_sincos_position_embedding(backbone: nn.Module) -> None:
    """Write the sin-cos embedding into a backbone; extra tokens get zeros, as in MoCo v3.

    Raises:
        ValueError: the backbone has no absolute position embedding, or its channels are not a
            multiple of 4.
    """
    found = find_position_embedding(backbone)
    patches = sincos_position_embedding(found.grid, found.value.shape[-1]).to(found.value)
    found.value[:, : found.num_extra_tokens] = 0
    found.value[:, found.num_extra_tokens :] = patches


def forward_with_positions(
    backbone: nn.Module, images: Tensor, embedding: Tensor
) -> Tensor | tuple[Tensor, ...]:
    """Run a vision transformer with other position embeddings of the patches.

    The backbone is unchanged when this returns or raises. Extra tokens (class token) keep their
    own embedding.

    Args:
        backbone: see :func:`find_position_embedding`.
        images: ``(B, C, gh · ph, gw · pw)``; others are refused with a ValueError.
        embedding: of the patches of each image, ``(B, L, D)``.
    """
    found = find_position_embedding(backbone)
    check_image_size(backbone, images)
    extra = found.value[:, : found.num_extra_tokens].expand(len(images), -1, -1)
    positions = {found.name: torch.cat([extra, embedding], dim=1)}  # (B, T + L, D)
    return functional_call(backbone, positions, (images,))


def first_transformer_layer(backbone: nn.Module) -> nn.Module:
    """The layer that the patches enter first, beside the position embedding.

    Raises:
        ValueError: there is no position embedding, or no list of modules ``layers`` (MMPretrain) or
            ``blocks`` (timm) beside it.
    """
    name = find_position_embedding(backbone).name
    owner = backbone.get_submodule(name.rpartition('.')[0])
    for layers in (getattr(owner, 'layers', None), getattr(owner, 'blocks', None)):
        if isinstance(layers, nn.ModuleList | nn.Sequential) and len(layers):
            return layers[0]
    raise ValueError(
        f'{type(owner).__name__} has no list of transformer layers called layers or blocks, before '
        'which patches could be dropped'
    )


def check_image_size(backbone: nn.Module, images: Tensor) -> None:
    """Refuse images ``(B, C, H, W)`` whose patches are not those of the position embedding.

    Raises:
        ValueError: they are not of the size that the backbone was built for, or it has no absolute
            position embedding.
    """
    found = find_position_embedding(backbone)
    height, width = (g * p for g, p in zip(found.grid, found.patch_size, strict=True))
    if images.shape[-2:] != (height, width):
        raise ValueError(
            f'{type(backbone).__name__} was built for images of {height} × {width} pixels, got '
            f'{tuple(images.shape)}: set its img_size'
        )
