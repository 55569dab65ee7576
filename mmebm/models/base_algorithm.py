"""What the algorithms share: prediction, the loss along a descent (equation 5), and pixel units."""

import logging
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence

import torch
from mmengine.logging import print_log
from mmpretrain.models import BaseSelfSupervisor
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from torch.distributed import fsdp

from ..autograd import (
    CompiledDifferentiation,
    GradientCollector,
    check_graph_of_gradient,
    checkpoint_activations,
    differentiate,
    twice_differentiable,
)
from ..backbones import PatchDropout, warn_of_batch_norm
from ..utils import checked_bool, checked_int, checked_number
from .chain import Chain
from .descent import Energy, descend, energy_gradient

# B batch, C channels, H × W pixels, N descent steps.

Distance = Callable[[Tensor], Tensor]

_FSDP = tuple(  # FSDP1 and, in newer PyTorch, FSDP2
    getattr(fsdp, name)
    for name in ('FullyShardedDataParallel', 'FSDPModule')
    if hasattr(fsdp, name)
)


class PredictingSelfSupervisor(BaseSelfSupervisor):
    """A pretraining method that can be validated: MMPretrain's own have no ``mode='predict'``."""

    @abstractmethod
    def predict(
        self, inputs: Tensor | Sequence[Tensor], data_samples: list[DataSample] | None = None
    ) -> list[DataSample]:
        """Restore and score a validation batch, for the metrics."""

    def forward(
        self,
        inputs: Tensor | Sequence[Tensor],
        data_samples: list[DataSample] | None = None,
        mode: str = 'tensor',
    ):
        """MMEngine's entry: ``mode`` is ``'loss'``, ``'predict'`` or ``'tensor'`` (features)."""
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        return super().forward(inputs, data_samples, mode)

    def to_pixels(self, images: Tensor) -> Tensor:
        """Undo the normalisation of the data preprocessor: ``(..., C, H, W)`` in 0..255."""
        return to_pixels(images, self.data_preprocessor)


class BaseEnergyAlgorithm(PredictingSelfSupervisor):
    """A backbone ψ and a head h, fitted so that descending on ``E = h(ψ(·))`` restores something.

    A subclass says what is descended on (pixels, position embeddings): its :meth:`loss` passes an
    energy and a distance to :meth:`chain_loss`, and its :meth:`validation_chains` makes pictures.

    Args:
        backbone: config of ψ, or a module.
        head: config of h, usually ``dict(type='EnergyHead', in_channels=...)``.
        step_size: α, or its initial value if it is learnt, > 0. The paper gives none;
            ``docs/step_size.md`` has our measurement.
        neck: config of a module between ψ and h.
        num_steps: N, descent steps per image in training, ≥ 0. The paper uses 2.
        learnable_step_size: whether α is trained with the network. log α is what is trained, so
            that α stays positive and changes by a factor.
        patch_drop_ratio: the share of patches, in [0, 1), that the transformer layers do not see in
            training, drawn for each image and iteration. Needs a vision transformer with an
            absolute position embedding.
        data_preprocessor: config of ``RestorationDataPreprocessor``, or of MMPretrain's
            ``SelfSupDataPreprocessor`` if no noise is added on the device.
        init_cfg: MMEngine's initialisation config.
        compile_step: compile each training step as one graph (``torch.compile``). The first
            iteration then takes minutes. A step that cannot be compiled runs as usual, and the log
            gives the reason.
        recompute: names of modules in the backbone, such as ``layers.*``, whose activations are
            recomputed instead of stored: less memory, more time. See
            :func:`~mmebm.autograd.checkpoint_activations`. Such a step is not compiled.

    Raises:
        TypeError, ValueError: an option of the wrong type or out of range.
    """

    def __init__(
        self,
        backbone: dict | nn.Module,
        head: dict | nn.Module,
        step_size: float,
        neck: dict | nn.Module | None = None,
        num_steps: int = 2,
        learnable_step_size: bool = True,
        patch_drop_ratio: float = 0.0,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | list | None = None,
        compile_step: bool = False,
        recompute: Sequence[str] = (),
    ):
        num_steps = checked_int('num_steps', num_steps, minimum=0)
        step_size = checked_number('step_size', step_size, above=0)
        checked_bool('compile_step', compile_step)
        super().__init__(
            backbone=backbone,
            neck=neck,
            head=head,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
        warn_of_batch_norm(self.backbone)
        self.recomputed = checkpoint_activations(self.backbone, recompute)
        self.patch_dropout = PatchDropout(self.backbone, patch_drop_ratio)
        self.num_steps = num_steps
        log_step_size = torch.tensor(step_size).log()
        if learnable_step_size:
            self.log_step_size = nn.Parameter(log_step_size)
        else:
            self.register_buffer('log_step_size', log_step_size)
        self.compile_step = compile_step
        # Set once per process, at the first iteration.
        self._graph_checked = False
        self._differentiate = None
        # For float16: the loss scale that the last backward saw. 2**16 is GradScaler's first one.
        self.register_buffer('_loss_scale', torch.tensor(2.0**16), persistent=False)

    @property
    def step_size(self) -> Tensor:
        """α, a 0-dim tensor in units of the squared variable (pixels², say) per energy."""
        return self.log_step_size.exp()

    def energy_of_features(self, features: Tensor | Sequence[Tensor]) -> Tensor:
        """``h``: neck and head on the output of the backbone → energies ``(B,)``."""
        return self.head(self.neck(features) if self.with_neck else features)

    def chain_loss(
        self,
        energy: Energy,
        distance: Distance,
        x: Tensor,
        collector: GradientCollector | None = None,
    ) -> dict[str, Tensor]:
        """Equation 5: the mean distance to the target along N steps of descent.

        ``1/N · Σₙ d(xⁿ)`` with ``xⁿ = sg(xⁿ⁻¹) − ∇ₓ α E(sg(xⁿ⁻¹))``, where sg is a stop-gradient.
        Because of it, each term can be differentiated on its own, so that memory does not grow with
        N; see :class:`~mmebm.autograd.GradientCollector`.

        Args:
            energy: E, maps x ``(B, ...)`` to energies ``(B,)``.
            distance: d, maps x to its 0-dim distance to the target.
            x: x⁰, ``(B, ...)``.
            collector: one to which other losses were already added; see :meth:`gradient_collector`.
                A new one by default.

        Returns:
            ``loss``, 0-dim and differentiable, and for the log: ``distance_step0`` (of x⁰) to
            ``distance_stepN``, the mean energies ``energy_step0`` to ``energy_step(N−1)``, and
            ``step_size``.

        Raises:
            NotImplementedError: the backbone cannot be differentiated twice.
        """
        collector = collector or self.gradient_collector(x)

        def term(x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
            # An average over K of L patches gives each of them L/K times its gradient.
            alpha = self.step_size * self.patch_dropout.share
            e, gradient = energy_gradient(energy, x, alpha, create_graph=True)
            x = x.detach() - gradient  # xⁿ, from xⁿ⁻¹ behind a stop-gradient
            d = distance(x)
            return d / self.num_steps, (x, e, d)

        with twice_differentiable(self.backbone):
            self._check_graph(energy, x)
            log = {'distance_step0': distance(x)}
            for n in range(1, self.num_steps + 1):
                x, e, log[f'distance_step{n}'] = collector.differentiate(term, x)
                log[f'energy_step{n - 1}'] = e.mean()
        return dict(loss=collector.total(), **log, step_size=self.step_size.detach())

    def chain(self, energy: Energy, x: Tensor, num_steps: int | None = None) -> Tensor:
        """Descend on an energy with the step size α; no graph is kept.

        Args:
            energy: maps x ``(B, ...)`` to energies ``(B,)``.
            x: x⁰, ``(B, ...)``.
            num_steps: N ≥ 0; by default as in training.

        Returns:
            ``(N + 1, B, ...)``, the first entry being the input.

        Raises:
            TypeError, ValueError: ``num_steps`` is not an integer ≥ 0.
        """
        num_steps = self.num_steps if num_steps is None else num_steps
        num_steps = checked_int('num_steps', num_steps, minimum=0)
        return descend(energy, x, self.step_size.detach(), num_steps)

    @abstractmethod
    def validation_chains(
        self,
        inputs: Tensor | Sequence[Tensor],
        data_samples: Sequence[DataSample] | None = None,
        num_steps: int | None = None,
    ) -> list[Chain]:
        """Restore or sort a validation batch as :meth:`predict` does, and keep every step.

        Args:
            inputs: as for :meth:`loss`, each ``(B, C, H, W)``, normalised.
            data_samples: B of them, as for :meth:`predict`.
            num_steps: N ≥ 0; by default as in training.

        Returns:
            B chains, in pixel units.

        Raises:
            TypeError, ValueError: ``num_steps`` is not an integer ≥ 0.
        """

    def gradient_collector(self, inputs: Tensor) -> GradientCollector:
        """A collector for the trained parameters, on the device of ``inputs``.

        Raises:
            NotImplementedError: a part of this module is an FSDP unit of its own.
        """
        _check_not_sharded(self)
        if self._differentiate is None:
            self._differentiate = self._choose_differentiation()
        return GradientCollector(
            [p for p in self.parameters() if p.requires_grad],
            self._loss_scale if _autocast_dtype(inputs) is torch.float16 else None,
            self._differentiate,
        )

    def _choose_differentiation(self) -> Callable:
        if not self.compile_step:
            return differentiate
        if self.recomputed:
            print_log(
                f'The training step is not compiled: recompute ({len(self.recomputed)} modules) '
                'calls autograd inside autograd, which torch.compile cannot trace',
                logger='current',
                level=logging.WARNING,
            )
            return differentiate
        return CompiledDifferentiation(self)

    def _check_graph(self, energy: Energy, x: Tensor) -> None:
        """Check, once per process, that the gradient can be differentiated again."""
        if self._graph_checked or not self.num_steps:
            return
        step_size = self.step_size.detach().requires_grad_()
        # The check leaves no trace: neither in random numbers nor in running statistics.
        before = [buffer.clone() for buffer in self.buffers()]
        devices = [] if x.device.type == 'cpu' else [x.device]
        try:
            with torch.random.fork_rng(devices, device_type=x.device.type):
                e, gradient = energy_gradient(energy, x, step_size, create_graph=True)
                check_graph_of_gradient(self.backbone, [e], [gradient], step_size)
        finally:
            for buffer, value in zip(self.buffers(), before, strict=True):
                buffer.copy_(value)
        self._graph_checked = True


def corrupted_and_clean(inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The two images of a pipeline that has a corruption, each ``(B, C, H, W)``.

    Raises:
        TypeError: there are not exactly two.
    """
    if not isinstance(inputs, Sequence) or len(inputs) != 2:
        got = f'{len(inputs)} of them' if isinstance(inputs, Sequence) else type(inputs).__name__
        raise TypeError(
            f'inputs must be [corrupted, clean], two tensors (B, C, H, W), got {got}. Is a '
            'corruption missing in the pipeline?'
        )
    return inputs[0], inputs[1]


def to_pixels(images: Tensor, data_preprocessor: nn.Module) -> Tensor:
    """Undo the normalisation of a data preprocessor: ``(..., C, H, W)`` in 0..255."""
    if not data_preprocessor._enable_normalize:
        return images
    return images * data_preprocessor.std + data_preprocessor.mean


def with_fields(
    data_samples: list[DataSample] | None, fields: Mapping[str, Tensor]
) -> list[DataSample]:
    """Write the results of a batch into its data samples.

    Args:
        data_samples: B of them; new ones if None.
        fields: by name, ``(B, ...)`` each.
    """
    data_samples = data_samples or [DataSample() for _ in next(iter(fields.values()))]
    for i, sample in enumerate(data_samples):
        for name, values in fields.items():
            sample.set_field(values[i], name)
    return data_samples


def _check_not_sharded(module: nn.Module) -> None:
    # FSDP gathers a unit's parameters for its forward pass only, and its gradients after it. If
    # autograd.grad asks for them they never arrive: FSDP1 would train with zeros.
    for name, part in module.named_modules():
        if part is not module and isinstance(part, _FSDP):
            raise NotImplementedError(
                f'{name} is an FSDP unit, whose gradients would be lost: wrap the algorithm as '
                'one unit, without auto_wrap_policy, or shard the optimizer only (docs/scaling.md)'
            )


def _autocast_dtype(x: Tensor) -> torch.dtype | None:
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
