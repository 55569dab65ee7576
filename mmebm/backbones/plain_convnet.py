"""A small convolutional network that restores well: no norm, no patches, any image size."""

from collections.abc import Sequence

from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class PlainConvNet(BaseModule):
    """Stages of a strided convolution and a residual block, with GELU and without norms; ours.

    Its gradient restores pixels well: all convolutions overlap, so that no grid shows, and without
    norms the energy keeps what it knows of contrast. The network that comes with mmebm is one.

    Args:
        dims: channels of the stages, each with half the resolution of the one before.
        init_cfg: MMEngine's initialisation config.
    """

    def __init__(self, dims: Sequence[int] = (48, 96, 128, 160), init_cfg: dict | None = None):
        super().__init__(init_cfg)
        layers, channels = [], 3
        for dim in dims:
            layers += [nn.Conv2d(channels, dim, 4, 2, 1), _ResidualBlock(dim)]
            channels = dim
        self.layers = nn.Sequential(*layers, nn.GELU())

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """Images ``(B, 3, H, W)`` → features ``(B, D, H / 2^S, W / 2^S)`` after S stages."""
        return (self.layers(images),)


class _ResidualBlock(nn.Sequential):
    def __init__(self, dim: int):
        convolutions = [nn.Conv2d(dim, dim, 3, 1, 1) for _ in range(2)]
        super().__init__(nn.GELU(), convolutions[0], nn.GELU(), convolutions[1])

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)
