"""Histograms of oriented gradients: what a patch is described by, beside its pixels."""

from collections.abc import Sequence

import torch
from mmpretrain.models import HOGGenerator
from mmpretrain.registry import MODELS
from torch import Tensor
from torch.nn.functional import unfold

from ..utils import checked_int
from .patch_energy_head import pair

# B batch, H × W pixels, L patches of ph × pw pixels; F values that describe a patch.


@MODELS.register_module()
class PatchHOG(HOGGenerator):
    """The orientations of the edges in each patch, for colour images.

    The HOG of MaskFeat (arXiv 2112.09133), as MMPretrain has it, without its Gaussian window: for
    each colour channel and cell a histogram of the angles of Sobel's gradient, modulo 180°,
    weighted by its length and divided by its L2 norm. MMPretrain's layout needs 14 × 14 patches;
    this one takes any number.

    Args:
        patch_size: ``(ph, pw)`` in pixels; one number for both.
        pool: the side of a cell in pixels; must divide ``patch_size``.
        nbins: bins of a histogram.

    Attributes:
        values: F, ``3 · nbins`` for each cell of a patch.

    Raises:
        TypeError, ValueError: an option of the wrong type or out of range.
    """

    def __init__(self, patch_size: int | Sequence[int], pool: int = 8, nbins: int = 9):
        size = pair('patch_size', patch_size)
        checked_int('pool', pool, minimum=1)
        checked_int('nbins', nbins, minimum=1)
        if size[0] % pool or size[1] % pool:
            raise ValueError(f'pool={pool} must divide patch_size={size}')
        super().__init__(nbins=nbins, pool=pool, gaussian_window=0)
        self.patch_size = size
        self.cells = (size[0] // pool, size[1] // pool)
        self.values = 3 * nbins * self.cells[0] * self.cells[1]

    def forward(self, images: Tensor) -> Tensor:
        """Describe images of any normalisation.

        Images ``(B, 3, H, W)`` of whole patches → ``(B, L, F)``, float32 in [0, 1].

        Raises:
            ValueError: images of another shape.
        """
        (ph, pw), shape = self.patch_size, tuple(images.shape)
        if len(shape) != 4 or shape[1] != 3 or shape[2] % ph or shape[3] % pw:
            raise ValueError(
                f'PatchHOG(patch_size={self.patch_size}) takes images (B, 3, H, W) with H a '
                f'multiple of {ph} and W of {pw}, got shape {shape}'
            )
        self.float()  # MMPretrain's sums are float32, whatever the model was cast to
        with torch.autocast(images.device.type, enabled=False):
            return super().forward(images.float())

    def _reshape(self, histograms: Tensor) -> Tensor:  # called by MMPretrain, (B, 3, bins, ...)
        return unfold(histograms.flatten(1, 2), self.cells, stride=self.cells).mT
