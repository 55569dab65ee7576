"""The energies of an image's masked patches, given the features of the others."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from ..backbones import sincos_position_embedding
from ..utils import checked_int

# B batch, L patches of a (gh, gw) grid: K visible and M masked ones; P = C · ph · pw values of a
# patch, F of its description, T extra tokens (class token), D channels of the backbone, E of the
# head.


class ConditionalLayer(nn.Module):
    """A transformer layer for a context, and for tokens that see the context and themselves.

    The context is what it would be without the tokens. Pre-norm, as in a ViT. E = ``channels`` is a
    multiple of ``num_heads``.
    """

    def __init__(self, channels: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.norm1, self.norm2 = (nn.LayerNorm(channels, eps=1e-6) for _ in range(2))
        self.query_key_value = nn.Linear(channels, 3 * channels)
        self.project = nn.Linear(channels, channels)
        self.perceptron = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )

    def forward(self, tokens: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens ``(B, M, E)`` and context ``(B, T + K, E)`` → the same, one layer further."""
        own_query, own_key, own_value = self._heads(tokens)
        query, key, value = self._heads(context)
        scale = key.shape[-1] ** -0.5
        others = scale * own_query @ key.mT  # (B, heads, M, T + K)
        itself = scale * (own_query * own_key).sum(-1, keepdim=True)
        weights = torch.cat([others, itself], dim=-1).softmax(-1)
        seen = weights[..., :-1] @ value + weights[..., -1:] * own_value
        return (
            self._finish(tokens, seen),
            self._finish(context, scaled_dot_product_attention(query, key, value)),
        )

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, ``(B, heads, L, E / heads)``."""
        x = self.query_key_value(self.norm1(x))
        x = x.reshape(*x.shape[:2], 3, self.num_heads, -1)
        return x.permute(2, 0, 3, 1, 4).unbind(0)

    def _finish(self, x: Tensor, seen: Tensor) -> Tensor:
        x = x + self.project(seen.transpose(1, 2).flatten(-2))
        return x + self.perceptron(self.norm2(x))


@MODELS.register_module()
class PatchEnergyHead(BaseModule):
    """``h(x_m | ψ(x_visible))``: how unlikely a patch is at its place, given the visible ones.

    A masked patch is embedded and attends, in every layer, to the features of the visible ones and
    to itself; a linear layer without bias gives its energy. Masked patches do not see each other,
    as in CrossMAE (arXiv 2401.14391); unlike there, the visible ones attend to each other, which is
    worth two points (``docs/small_data.md``). Ours, not the paper's.

    Args:
        in_channels: D.
        grid: ``(gh, gw)``, rows and columns of patches; one number for both.
        patch_size: ``(ph, pw)`` in pixels; one number for both.
        image_channels: C.
        embed_dims: E, a multiple of 4 and of ``num_heads``.
        num_layers: ≥ 1.
        num_heads: of each layer.
        extra_values: F ≥ 0, how many values describe a patch beside its pixels.
        init_cfg: how MMEngine initialises it. By default as MAE's decoder is (Xavier), and the last
            layer with zeros: the first descent then changes nothing.

    Raises:
        TypeError, ValueError: an option of the wrong type or out of range.
    """

    def __init__(
        self,
        in_channels: int,
        grid: int | Sequence[int],
        patch_size: int | Sequence[int],
        image_channels: int = 3,
        embed_dims: int = 192,
        num_layers: int = 2,
        num_heads: int = 6,
        extra_values: int = 0,
        init_cfg: dict | list | None = None,
    ):
        for name, value in dict(
            in_channels=in_channels,
            image_channels=image_channels,
            embed_dims=embed_dims,
            num_layers=num_layers,
            num_heads=num_heads,
        ).items():
            checked_int(name, value, minimum=1)
        checked_int('extra_values', extra_values, minimum=0)
        self.grid, self.patch_size = pair('grid', grid), pair('patch_size', patch_size)
        if embed_dims % num_heads:
            raise ValueError(f'embed_dims={embed_dims} must be a multiple of num_heads={num_heads}')
        super().__init__(
            init_cfg
            or [
                dict(type='Xavier', layer='Linear', distribution='uniform'),
                dict(type='Constant', layer='LayerNorm', val=1.0),
                dict(type='Constant', val=0.0, override=dict(name='fc')),
            ]
        )
        self.in_channels = in_channels
        self.pixel_values = image_channels * self.patch_size[0] * self.patch_size[1]
        self.extra_values = extra_values
        self.embed_context = nn.Linear(in_channels, embed_dims)
        self.embed_patches = nn.Linear(self.pixel_values + extra_values, embed_dims)
        positions = sincos_position_embedding(self.grid, embed_dims)  # (L, E)
        self.register_buffer('positions', positions, persistent=False)
        self.layers = nn.ModuleList(
            ConditionalLayer(embed_dims, num_heads) for _ in range(num_layers)
        )
        # Biases would shift all energies alike, and have no gradient with respect to the patch.
        self.norm = nn.LayerNorm(embed_dims, eps=1e-6, bias=False)
        self.fc = nn.Linear(embed_dims, 1, bias=False)

    def forward(self, features: Tensor, visible: Tensor, patches: Tensor, masked: Tensor) -> Tensor:
        """The energy of each masked patch, ``(B, M)``.

        Args:
            features: of the extra tokens and the visible patches, normalised, ``(B, T + K, D)``.
            visible: the numbers of the visible patches, ``(B, K)``.
            patches: pixels of the masked ones, normalised, and descriptions, ``(B, M, P + F)``.
            masked: their numbers, ``(B, M)``.
        """
        extra = features.shape[1] - visible.shape[1]
        context = self.embed_context(features)
        placed = context[:, extra:] + self.positions[visible]
        context = torch.cat([context[:, :extra], placed], dim=1)
        tokens = self.embed_patches(patches) + self.positions[masked]
        for layer in self.layers:
            tokens, context = layer(tokens, context)
        return self.fc(self.norm(tokens)).squeeze(-1)


def pair(name: str, value: int | Sequence[int]) -> tuple[int, int]:
    """One integer ≥ 1, or two, as two."""
    values = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(values) != 2:
        raise ValueError(f'{name} must be one integer or two, got {value!r}')
    return tuple(checked_int(name, v, minimum=1) for v in values)
