"""Mixed precision on any device."""

from contextlib import contextmanager
from math import inf

import torch
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmpretrain.registry import OPTIM_WRAPPERS
from torch import nn

from ..utils import checked_number

_DTYPES = ('bfloat16', 'float16', 'float32')


@OPTIM_WRAPPERS.register_module()
class MixedPrecisionOptimWrapper(AmpOptimWrapper):
    """MMEngine's ``AmpOptimWrapper``, also on the CPU, and in bfloat16 where that is supported.

    Args:
        dtype: ``'bfloat16'``, ``'float16'``, or ``'float32'``, which is full precision.
            Defaults to bfloat16 if the device computes in it; else to float16 on a GPU and to
            float32 on a CPU, where bfloat16 would be several times slower.
        loss_scale: as for ``AmpOptimWrapper``; used with float16 only, since bfloat16 has the
            range of float32. Defaults to ``'dynamic'``.
        **kwargs: as for MMEngine's ``OptimWrapper``.

    Raises:
        TypeError, ValueError: an unknown ``dtype``, or a ``loss_scale`` that is none.
    """

    def __init__(
        self, dtype: str | None = None, loss_scale: str | float | dict = 'dynamic', **kwargs
    ):
        # not AmpOptimWrapper's own __init__, which refuses a machine without an accelerator
        OptimWrapper.__init__(self, **kwargs)
        if dtype is None:
            dtype = default_dtype(get_device())
        if dtype not in _DTYPES:
            raise ValueError(f'dtype must be one of {_DTYPES} or None, got {dtype!r}')
        self.cast_dtype = getattr(torch, dtype)
        scaler = dict(device=get_device(), enabled=dtype == 'float16')
        self._scale_update_param = None
        if isinstance(loss_scale, dict):
            scaler.update(loss_scale)
        elif loss_scale != 'dynamic':
            self._scale_update_param = checked_number('loss_scale', loss_scale, above=0)
            scaler.update(init_scale=self._scale_update_param)
        self.loss_scaler = torch.amp.GradScaler(**scaler)

    def get_lr(self) -> dict[str, list[float]]:
        """Learning rates by group, that of most parameters first, which is the one logged."""
        rates = super().get_lr()
        sizes = [sum(p.numel() for p in group['params']) for group in self.optimizer.param_groups]
        order = sorted(range(len(sizes)), key=lambda group: -sizes[group])
        return rates | dict(lr=[rates['lr'][group] for group in order])

    def state_dict(self) -> dict:
        """As MMEngine's; a loss scale of 0 or infinity, which would stay, is not kept."""
        state = super().state_dict()
        scale = state['loss_scaler'].get('scale', 1.0)
        if not 0 < scale < inf:
            state['loss_scaler']['scale'] = self.loss_scaler._init_scale
        return state

    @contextmanager
    def optim_context(self, model: nn.Module):
        """Autocast, and no gradient synchronisation while gradients are accumulated."""
        with (
            OptimWrapper.optim_context(self, model),
            torch.autocast(get_device(), self.cast_dtype, self.cast_dtype is not torch.float32),
        ):
            yield


def default_dtype(device: str) -> str:
    """The precision that a type of device trains fastest in: a name that the wrapper takes."""
    if device == 'cuda' and not torch.cuda.is_bf16_supported():
        return 'float16'
    if device == 'cpu' and not _cpu_has_bfloat16():
        print_log('float32: this processor has no instructions for bfloat16', 'current')
        return 'float32'
    return 'bfloat16'


def _cpu_has_bfloat16() -> bool:
    # oneDNN is what multiplies bfloat16 on a CPU, and this is how PyTorch asks it.
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
