"""Batch norm whose statistics are constants."""

import torch
from torch import Tensor
from torch.nn import functional as F


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """PyTorch's function of this name, but derivatives take a batch's mean and variance as fixed.

    Values and running statistics are PyTorch's. The gradient that restores an image then holds
    nothing of what the energies of the *others* change with it, and is of the kind that evaluation
    takes, with running statistics: ``docs/backbones.md`` has what that is worth.
    """
    count = input.numel() // input.shape[1]  # values per channel
    if training and count > 1:  # PyTorch refuses a single one
        with torch.no_grad():
            axes = [0, *range(2, input.dim())]
            wide = torch.promote_types(input.dtype, torch.float32)
            var, mean = torch.var_mean(input.to(wide), axes, correction=0)
            if running_mean is not None:
                running_mean.lerp_(mean.to(running_mean.dtype), momentum)
                running_var.lerp_((var * (count / (count - 1))).to(running_var.dtype), momentum)
        running_mean, running_var, training = mean, var, False
    return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
