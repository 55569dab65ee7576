"""Batch norm makes the energy of an image depend on the rest of its batch; group norm does not."""

import logging

from mmengine.logging import print_log
from mmpretrain.registry import MODELS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm  # 1-d to 3-d, synchronised, and timm's

from ..utils import checked_int
from ..utils.batch_norm import training_batch_norms


@MODELS.register_module()
def GroupNormBackbone(backbone: dict | nn.Module, num_groups: int = 32) -> nn.Module:
    """Build a backbone with a group norm in place of each batch norm.

    Batch norm takes its mean and variance over the batch, so that ``E(x)`` of an image depends on
    its neighbours and training and evaluation see two energies (``docs/backbones.md``). Group norm
    (Wu & He, 2018) takes them over groups of channels of one image. Use it in pretraining and in
    whatever comes after: the config stays that of the backbone, one level deeper, and its tensors
    keep their names (running statistics excepted).

    Args:
        backbone: config of the backbone, or a module, changed in place.
        num_groups: groups of channels per norm, ≥ 1, the paper's 32 by default. Fewer where the
            channels cannot be split evenly, or into groups of at least 8.

    Returns:
        The backbone itself, of its own class.

    Raises:
        TypeError: ``num_groups`` is not an integer.
        ValueError: it is below 1, or the backbone has no batch norm.
    """
    num_groups = checked_int('num_groups', num_groups, minimum=1)
    if not isinstance(backbone, nn.Module):
        backbone = MODELS.build(backbone)
    replaced: dict[nn.Module, nn.Module] = {}  # a norm used in two places stays one
    for parent in list(backbone.modules()):
        for name, child in parent._modules.items():
            if isinstance(child, _BatchNorm):
                if child not in replaced:
                    replaced[child] = _group_norm(child, num_groups)
                parent._modules[name] = replaced[child]
    if not replaced:
        raise ValueError(
            f'{type(backbone).__name__} has no batch norm to replace: use it without '
            'GroupNormBackbone'
        )
    return backbone


class _Fixed:
    """A module that stays in evaluation mode."""

    def train(self, mode: bool = True) -> nn.Module:
        return super().train(False)


@MODELS.register_module()
def FixedBatchNormBackbone(backbone: dict | nn.Module) -> nn.Module:
    """Build a backbone whose batch norms keep their running statistics, for weights to start from.

    So the energy of an image does not depend on its batch, and the weights mean what they meant;
    scales and shifts are trained. Takes and returns what :func:`GroupNormBackbone` does.
    """
    if not isinstance(backbone, nn.Module):
        backbone = MODELS.build(backbone)
    for norm in backbone.modules():
        if isinstance(norm, _BatchNorm):
            norm.__class__ = type(type(norm).__name__, (_Fixed, type(norm)), {})
            norm.eval()
    return backbone


def _group_norm(batch_norm: _BatchNorm, num_groups: int) -> nn.GroupNorm:
    channels = batch_norm.num_features
    groups = next(
        g
        for g in range(min(num_groups, channels), 0, -1)
        if g == 1 or (channels % g == 0 and channels // g >= 8)
    )
    options = dict(eps=batch_norm.eps, affine=batch_norm.affine)
    if hasattr(batch_norm, 'act'):  # timm's norm followed by an activation
        from timm.layers import GroupNormAct  # slow to import

        group_norm = GroupNormAct(channels, groups, **options)
        group_norm.drop, group_norm.act = batch_norm.drop, batch_norm.act
    else:
        group_norm = nn.GroupNorm(groups, channels, **options)
    # the same parameters: they may start at zero, or be frozen
    group_norm.weight, group_norm.bias = batch_norm.weight, batch_norm.bias
    return group_norm


def warn_of_batch_norm(backbone: nn.Module) -> None:
    """Log a warning if the backbone normalises over the batch while it is trained."""
    coupling = training_batch_norms(backbone)
    if coupling:
        print_log(
            f'{type(backbone).__name__} has {len(coupling)} batch norms ({coupling[0]}, ...): the '
            'energy of an image then depends on the other images of its batch, and differs in '
            "evaluation. Energies of single images: backbone=dict(type='GroupNormBackbone', "
            'backbone=dict(...)); see docs/backbones.md',
            logger='current',
            level=logging.WARNING,
        )
