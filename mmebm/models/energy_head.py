"""The energy head: features of any backbone → one energy per image (section 2.2 of the paper)."""

from collections.abc import Sequence

from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ..utils import checked_int

# B batch, D channels, L tokens, H × W positions.


def pool_features(features: Tensor | Sequence[Tensor], channels: int) -> Tensor:
    """Average the last feature map of a backbone over its tokens or positions.

    Args:
        features: ``(B, D)``, ``(B, L, D)``, ``(B, D, L)``, ``(B, D, H, W)`` or timm's
            ``(B, H, W, D)``; of a tuple or list, the last entry counts, and of that one again where
            a stage has several outputs.
        channels: D. It tells the layouts apart; where two axes have this size, tokens are read as
            ``(B, L, D)`` and maps as ``(B, D, H, W)``.

    Returns:
        ``(B, D)``.

    Raises:
        ValueError: no axis of the features has the size ``channels``, or there are not 2 to 4 axes.
        TypeError: the features are neither a floating-point tensor nor a sequence that ends in one.
    """
    while isinstance(features, Sequence) and len(features):
        features = features[-1]
    if not isinstance(features, Tensor) or not features.is_floating_point():
        got = features.dtype if isinstance(features, Tensor) else type(features).__name__
        raise TypeError(
            'EnergyHead takes a floating-point tensor, or a tuple whose last entry is one, as the '
            f'features of the backbone, got {got}'
        )
    shape = tuple(features.shape)
    axes = {2: (1,), 3: (2, 1), 4: (1, 3)}.get(features.dim(), ())
    for axis in axes:
        if shape[axis] == channels:
            pooled = [a for a in range(1, features.dim()) if a != axis]
            return features.mean(pooled) if pooled else features
    seen = ' or '.join(str(shape[axis]) for axis in axes)
    raise ValueError(
        f'EnergyHead(in_channels={channels}) takes features (B, D), (B, L, D), (B, D, L), '
        f'(B, D, H, W) or (B, H, W, D) with D = {channels}, got shape {shape}'
        + (f': set in_channels={seen}' if seen else '')
    )


@MODELS.register_module()
class EnergyHead(BaseModule):
    """``E = h(ψ(x))``: average pooling, then a linear layer with one output and no bias.

    The paper has no bias (Listing 1, line 4): it would shift all energies equally, and has no
    gradient with respect to the image.

    Args:
        in_channels: channels D of the backbone's output, a positive integer.
        init_cfg: how MMEngine initialises the layer. The paper does not say. Ours starts at zero:
            the first descent then leaves the image unchanged, and a random network makes no
            corruption worse (``docs/notes.md`` has the measurement).

    Raises:
        TypeError, ValueError: ``in_channels`` is not a positive integer.
    """

    def __init__(self, in_channels: int, init_cfg: dict | list | None = None):
        in_channels = checked_int('in_channels', in_channels, minimum=1)
        super().__init__(init_cfg or dict(type='Constant', layer='Linear', val=0.0))
        self.in_channels = in_channels
        self.fc = nn.Linear(in_channels, 1, bias=False)

    def forward(self, features: Tensor | Sequence[Tensor]) -> Tensor:
        """Energies ``(B,)`` of the features; see :func:`pool_features` for their shapes."""
        return self.fc(pool_features(features, self.in_channels)).squeeze(-1)
