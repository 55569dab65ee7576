"""What the algorithms share: backbone and head, the step size α, and one step of the descent."""

import logging
from collections.abc import Callable, Sequence

import torch
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.distributed import fsdp

from .batch import PredictingSelfSupervisor, to_pixels
from .batch_norm import warn_of_batch_norm
from .descent import Energy, descend, energy_gradient
from .gradient_collection import GradientCollector
from .recomputation import recompute_blocks
from .second_derivative import check_graph_of_gradient
from .training_step import CompiledStep, Step, training_step

# B batch, C channels, H × W pixels, N descent steps.

_FSDP = tuple(  # FSDP1 and, in newer PyTorch, FSDP2
    getattr(fsdp, name)
    for name in ('FullyShardedDataParallel', 'FSDPModule')
    if hasattr(fsdp, name)
)


class BaseEnergyAlgorithm(PredictingSelfSupervisor):
    """A backbone ψ and a head h, fitted so that descending on ``h(ψ(·))`` restores something.

    A subclass says what is descended on (pixels, position embeddings) and implements :meth:`loss`
    and :meth:`predict`.

    Args:
        backbone: config of ψ, or a module.
        head: config of h, usually ``dict(type='EnergyHead', in_channels=...)``.
        neck: config of a module between the two, or None.
        num_steps: N, descent steps per image while training, ≥ 0.
        step_size: α, or its initial value where it is learnt, > 0.
        learnable_step_size: whether α is trained with the network. What is trained is log α, so
            that α stays positive and moves by a share of itself.
        data_preprocessor: config of MMPretrain's ``SelfSupDataPreprocessor``.
        init_cfg: MMEngine's initialisation config.
        compile_step: compile a training step (``torch.compile``, one graph), which takes minutes
            once; where it cannot be compiled, the log says why, and it runs as it is.
        recompute: names of modules in the backbone, such as ``layers.*``, whose activations are
            computed again, not kept: less memory, more time; see :func:`.recompute_blocks`. Such a
            step is not compiled.

    Raises:
        TypeError, ValueError: an option of the wrong kind or out of its range.
    """

    def __init__(
        self,
        backbone: dict | nn.Module,
        head: dict | nn.Module,
        neck: dict | nn.Module | None,
        num_steps: int,
        step_size: float,
        learnable_step_size: bool,
        data_preprocessor: dict | nn.Module | None,
        init_cfg: dict | list | None,
        compile_step: bool,
        recompute: Sequence[str] = (),
    ):
        if not isinstance(num_steps, int) or isinstance(num_steps, bool):
            raise TypeError(f'num_steps must be an integer ≥ 0, got {num_steps!r}')
        if num_steps < 0:
            raise ValueError(f'num_steps must be an integer ≥ 0, got {num_steps}')
        if not isinstance(step_size, int | float) or isinstance(step_size, bool):
            raise TypeError(f'step_size must be a number > 0, got {step_size!r}')
        if not 0 < step_size < float('inf'):
            raise ValueError(f'step_size must be a finite number > 0, got {step_size}')
        if not isinstance(compile_step, bool):
            raise TypeError(f'compile_step must be True or False, got {compile_step!r}')
        super().__init__(
            backbone=backbone,
            neck=neck,
            head=head,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
        warn_of_batch_norm(self.backbone)
        self.recomputed = recompute_blocks(self.backbone, recompute)
        self.num_steps = num_steps
        log_step_size = torch.tensor(float(step_size)).log()
        if learnable_step_size:
            self.log_step_size = nn.Parameter(log_step_size)
        else:
            self.register_buffer('log_step_size', log_step_size)
        self.compile_step = compile_step
        # once per process
        self._graph_checked = False
        self._step = None
        # Where float16 is used: the loss scale that the last backward saw, 2**16 to begin with like
        # torch's GradScaler.
        self.register_buffer('_loss_scale', torch.tensor(2.0**16), persistent=False)

    @property
    def step_size(self) -> Tensor:
        """α, a 0-dim tensor in units of the squared variable (pixels², say) per energy."""
        return self.log_step_size.exp()

    def energy_of_features(self, features: Tensor | Sequence[Tensor]) -> Tensor:
        """``h``: neck and head on the output of the backbone → energies ``(B,)``."""
        return self.head(self.neck(features) if self.with_neck else features)

    def chain(self, energy: Energy, x: Tensor, num_steps: int | None = None) -> Tensor:
        """Descend on an energy with the step size α; keeps no graph.

        Args:
            energy: maps x ``(B, ...)`` to energies ``(B,)``.
            x: x⁰, ``(B, ...)``.
            num_steps: N ≥ 0, the number trained with by default.

        Returns:
            ``(N + 1, B, ...)``, the first entry being the input.

        Raises:
            ValueError: ``num_steps`` is negative.
        """
        num_steps = self.num_steps if num_steps is None else num_steps
        if num_steps < 0:
            raise ValueError(f'num_steps must be an integer ≥ 0, got {num_steps}')
        return descend(energy, x, self.step_size.detach(), num_steps)

    def training_step(
        self,
        energy: Energy,
        distance: Callable[[Tensor], Tensor],
        x: Tensor,
        collector: GradientCollector,
    ) -> Step:
        """One of the N steps; its share of the loss goes to the collector.

        Args:
            energy: maps x ``(B, ...)`` to energies ``(B,)``.
            distance: maps the next x to a 0-dim tensor.
            x: ``(B, ...)``.
            collector: of this iteration.

        Raises:
            NotImplementedError: the backbone cannot be differentiated twice.
        """
        if not self._graph_checked:
            self._check_graph(energy, x)
            self._graph_checked = True
        if self._step is None:
            self._step = self._make_step()
        weight = collector.scale / self.num_steps
        step = self._step(
            energy,
            distance,
            x,
            self.log_step_size,
            collector.parameters,
            weight,
            collector.gradients,
        )
        collector.add(step.distance / self.num_steps, step.gradients)
        return step

    def _make_step(self) -> Callable[..., Step]:
        if not self.compile_step:
            return training_step
        if self.recomputed:
            print_log(
                f'The training step is not compiled: recompute ({len(self.recomputed)} modules) '
                'calls autograd inside of autograd, which the compiler does not take',
                logger='current',
                level=logging.WARNING,
            )
            return training_step
        return CompiledStep(self)

    def _check_graph(self, energy: Energy, x: Tensor) -> None:
        step_size = self.step_size.detach().requires_grad_()
        # as if it had not been: neither random numbers nor running statistics move
        before = [buffer.clone() for buffer in self.buffers()]
        devices = [] if x.device.type == 'cpu' else [x.device]
        try:
            with torch.random.fork_rng(devices, device_type=x.device.type):
                e, gradient = energy_gradient(energy, x, step_size, create_graph=True)
                check_graph_of_gradient(self.backbone, [e], [gradient], step_size)
        finally:
            for buffer, value in zip(self.buffers(), before, strict=True):
                buffer.copy_(value)

    def gradient_collector(self, inputs: Tensor) -> GradientCollector:
        """A collector for the trained parameters; ``inputs`` tells the device.

        Raises:
            NotImplementedError: a part of this module is a unit of FSDP by itself.
        """
        _check_not_sharded(self)
        return GradientCollector(
            [p for p in self.parameters() if p.requires_grad],
            self._loss_scale if _autocast_dtype(inputs) is torch.float16 else None,
        )

    def to_pixels(self, images: Tensor) -> Tensor:
        """Undo the normalisation of the data preprocessor: ``(..., C, H, W)`` in 0..255."""
        return to_pixels(images, self.data_preprocessor)


def _check_not_sharded(module: nn.Module) -> None:
    # FSDP lends a unit's parameters out for the time of its forward pass, and gathers gradients
    # where these end. Asked for by autograd.grad they never arrive: FSDP1 would train with zeros.
    for name, part in module.named_modules():
        if part is not module and isinstance(part, _FSDP):
            raise NotImplementedError(
                f'{name} is a unit of FSDP, whose gradients would be lost: wrap the algorithm as '
                'one unit, without auto_wrap_policy, or shard the optimizer only (docs/scaling.md)'
            )


def _autocast_dtype(x: Tensor) -> torch.dtype | None:
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
