"""Which batch norms take their statistics from the batch."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm  # 1-d to 3-d, synchronised, and timm's


def training_batch_norms(backbone: nn.Module) -> list[str]:
    """Names of the batch norms that take their statistics from the batch while training."""
    mode = backbone.training
    backbone.train()  # options such as ``norm_eval=True`` take effect here
    names = [n for n, m in backbone.named_modules() if isinstance(m, _BatchNorm) and m.training]
    backbone.train(mode)
    return names
