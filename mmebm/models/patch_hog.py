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
    """The orientations of the edges in each patch, for images and patches of any size.

    MMPretrain's HOG, which is that of MaskFeat (arXiv 2112.09133): for each colour channel and cell
    a histogram of the angles of Sobel's gradient, modulo 180°, weighted by its length and divided
    by its L2 norm. MMPretrain's own layout needs 14 × 14 patches.

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
        self.cells = (size[0] // pool, size[1] // pool)
        self.values = 3 * nbins * self.cells[0] * self.cells[1]

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(B, 3, H, W)``, of any normalisation → ``(B, L, F)`` in [0, 1]."""
        with torch.autocast(images.device.type, enabled=False):  # its sums are float32
            return super().forward(images.float())

    def _reshape(self, histograms: Tensor) -> Tensor:  # called by MMPretrain, (B, 3, bins, ...)
        return unfold(histograms.flatten(1, 2), self.cells, stride=self.cells).mT
