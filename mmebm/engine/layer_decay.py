"""Layer-wise learning rate decay for any model with a backbone."""

from collections.abc import Callable
from functools import partial

from mmpretrain.engine import LearningRateDecayOptimWrapperConstructor
from mmpretrain.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from ..utils import checked_number

_OPTIONS = {'layer_decay_rate', 'norm_decay_mult', 'bias_decay_mult', 'flat_decay_mult'}
_OPTIONS |= {'custom_keys'}


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(LearningRateDecayOptimWrapperConstructor):
    """MMPretrain's layer-wise decay, also for segmentors and detectors.

    A parameter at depth d of D has the learning rate ``lr * layer_decay_rate ** (D - 1 - d)``.
    MMPretrain asks the whole model for d and D, and only its own classifiers answer. Here the
    backbone is asked; necks and heads, which come after it, have the full learning rate.

    Args:
        optim_wrapper_cfg: as for MMEngine's constructors; its optimizer has ``lr`` and
            ``weight_decay``.
        paramwise_cfg: ``layer_decay_rate`` in (0, 1], ``norm_decay_mult``, ``bias_decay_mult``,
            ``flat_decay_mult`` and ``custom_keys`` (with ``decay_mult``), as for MMPretrain's
            ``LearningRateDecayOptimWrapperConstructor``. Defaults to no decay by layer.

    Raises:
        ValueError: an unknown or missing option, or a backbone that does not give the depth of its
            parameters.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None):
        optimizer = optim_wrapper_cfg['optimizer']
        if None in (optimizer.get('lr'), optimizer.get('weight_decay')):
            raise ValueError(f'optimizer must name lr and weight_decay, to be scaled: {optimizer}')
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        # the parent silently ignores the options that it does not know
        unknown = set(self.paramwise_cfg) - _OPTIONS
        for key, options in self.paramwise_cfg.get('custom_keys', {}).items():
            unknown |= {f'custom_keys.{key}.{option}' for option in set(options) - {'decay_mult'}}
        if unknown:
            options = f'{sorted(_OPTIONS)}, and decay_mult in custom_keys'
            raise ValueError(f'paramwise_cfg has the options {options}, got {sorted(unknown)}')
        rate = self.paramwise_cfg.get('layer_decay_rate', 1.0)
        checked_number('layer_decay_rate', rate, above=0, high=1)

    def add_params(
        self,
        params: list[dict],
        module: nn.Module,
        prefix: str = '',
        get_layer_depth: Callable[[str], tuple[int, int]] | None = None,
        **kwargs,
    ) -> None:
        if get_layer_depth is None:
            backbone = getattr(module, 'backbone', None)
            timm_model = getattr(backbone, 'timm_model', None)
            if hasattr(timm_model, 'group_matcher'):
                get_layer_depth = _depths_of_timm(timm_model)
            elif hasattr(backbone, 'get_layer_depth'):
                get_layer_depth = partial(backbone.get_layer_depth, prefix='backbone.')
            else:
                raise ValueError(
                    f'{type(backbone).__name__} of {type(module).__name__} has no get_layer_depth, '
                    "as MMPretrain's VisionTransformer, ConvNeXt or SwinTransformer have: leave "
                    'out optim_wrapper.constructor and paramwise_cfg.layer_decay_rate'
                )
        super().add_params(params, module, prefix, get_layer_depth, **kwargs)


def _depths_of_timm(network: nn.Module) -> Callable[[str], tuple[int, int]]:
    """Depths of the parameters of ``backbone.timm_model``, as in timm's own layer-wise decay."""
    from timm.models._manipulate import group_with_matcher  # slow to import

    head = '~'  # in no group, so that timm puts it last
    named = [*network.named_parameters(), (head, None)]
    depths = group_with_matcher(named, network.group_matcher(), reverse=True)
    last, prefix = depths[head], 'backbone.timm_model.'
    return lambda name: (depths.get(name.removeprefix(prefix), last), last + 1)
