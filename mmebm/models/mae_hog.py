"""The targets of ``energy-inpainting-hog`` for MAE: a control that differs in the method alone."""

import torch
from mmpretrain.models import MAEPretrainHead
from mmpretrain.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class MAEHOGHead(MAEPretrainHead):
    """MAE's head, which also predicts a description of each patch, up to its mean and variance.

    Args:
        target_generator: config of a module ``(B, 3, H, W)`` → ``(B, L, F)``, such as ``PatchHOG``;
            the neck predicts ``3 · patch_size² + F`` values.
        **options: of MMPretrain's ``MAEPretrainHead``.
    """

    def __init__(self, target_generator: dict, **options):
        super().__init__(**options)
        self.target_generator = MODELS.build(target_generator)

    def construct_target(self, target: Tensor) -> Tensor:
        """The target of images ``(B, 3, H, W)``: ``(B, L, 3 · patch_size² + F)``."""
        described = self.target_generator(target)
        variance, mean = torch.var_mean(described, dim=-1, keepdim=True)
        described = (described - mean) / (variance + 1e-6).sqrt()
        return torch.cat([super().construct_target(target), described], dim=-1)
