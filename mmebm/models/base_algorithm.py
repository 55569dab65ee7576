"""What the algorithms share: prediction, the loss along a descent (equation 5), and pixel units."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence

import torch
from mmpretrain.models import BaseSelfSupervisor
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # 1-d to 3-d, synchronised, and timm's

from ..autograd import (
    CompiledDifferentiation,
    GradientCollector,
    check_graph_of_gradient,
    differentiate,
    twice_differentiable,
)
from ..utils import checked_bool, checked_int, checked_number
from .chain import Chain, split_chains

# B batch, C channels, H × W pixels, N descent steps.

Energy = Callable[[Tensor], Tensor]  # x (B, ...) → (B,): a network, a closed form, a sum of both
Distance = Callable[[Tensor], Tensor]
Inputs = Tensor | Sequence[Tensor]  # a batch of images, or [corrupted, clean]
Samples = list[DataSample] | None


class PredictingSelfSupervisor(BaseSelfSupervisor):
    """A pretraining method that can be validated: MMPretrain's own have no ``mode='predict'``."""

    @abstractmethod
    def predict(self, inputs: Inputs, data_samples: Samples = None) -> list[DataSample]:
        """Restore and score a validation batch, for the metrics."""

    def forward(self, inputs: Inputs, data_samples: Samples = None, mode: str = 'tensor'):
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
            ``docs/notes.md`` has our measurement.
        neck: config of a module between ψ and h.
        num_steps: N, descent steps per image in training, ≥ 0. The paper uses 2.
        learnable_step_size: whether α is trained with the network. log α is what is trained, so
            that α stays positive and changes by a factor.
        data_preprocessor: config of ``RestorationDataPreprocessor``, or of MMPretrain's
            ``SelfSupDataPreprocessor`` if no noise is added on the device.
        init_cfg: MMEngine's initialisation config.
        compile_step: compile each training step as one graph (``torch.compile``). The first
            iteration then takes minutes; ``'gpu'`` does so on a GPU only. A step that cannot be
            compiled runs as usual, and the log gives the reason.
        norm_eval: keep the running statistics of batch norms, as for weights to start from.

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
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | list | None = None,
        compile_step: bool | str = False,
        norm_eval: bool = False,
    ):
        num_steps = checked_int('num_steps', num_steps, minimum=0)
        step_size = checked_number('step_size', step_size, above=0)
        if compile_step != 'gpu':
            checked_bool('compile_step', compile_step)
        super().__init__(
            backbone, neck, head, data_preprocessor=data_preprocessor, init_cfg=init_cfg
        )
        self.num_steps, self.norm_eval = num_steps, checked_bool('norm_eval', norm_eval)
        log_step_size = torch.tensor(step_size).log()
        if learnable_step_size:
            self.log_step_size = nn.Parameter(log_step_size)
        else:
            self.register_buffer('log_step_size', log_step_size)
        self.compile_step = compile_step
        self._graph_checked, self._differentiate = False, None  # set at the first iteration
        # For float16: the loss scale that the last backward saw. 2**16 is GradScaler's first one.
        self.register_buffer('_loss_scale', torch.tensor(2.0**16), persistent=False)

    def train(self, mode: bool = True) -> nn.Module:
        super().train(mode)
        if self.norm_eval:
            for norm in self.backbone.modules():
                if isinstance(norm, _BatchNorm):
                    norm.eval()
        return self

    @property
    def step_size(self) -> Tensor:
        """α, a 0-dim tensor in units of the squared variable (pixels², say) per energy."""
        return self.log_step_size.exp()

    def energy_of_features(self, features: Tensor | Sequence[Tensor]) -> Tensor:
        """``h``: neck and head on the output of the backbone → energies ``(B,)``."""
        return self.head(self.neck(features) if self.with_neck else features)

    def chain_loss(
        self, energy: Energy, distance: Distance, x: Tensor, seen_share: float = 1.0
    ) -> dict[str, Tensor]:
        """Equation 5: the mean distance to the target along N steps of descent.

        ``1/N · Σₙ d(xⁿ)`` with ``xⁿ = sg(xⁿ⁻¹) − ∇ₓ α E(sg(xⁿ⁻¹))``, where sg is a stop-gradient.
        Because of it, each term can be differentiated on its own, so that memory does not grow with
        N; see :class:`~mmebm.autograd.GradientCollector`.

        Args:
            energy: E, maps x ``(B, ...)`` to energies ``(B,)``.
            distance: d, maps x to its 0-dim distance to the target.
            x: x⁰, ``(B, ...)``.
            seen_share: a factor of α, K / L where the energy sees K of L patches: an average over
                them gives each L / K times its gradient.

        Returns:
            ``loss``, 0-dim and differentiable, and for the log: ``distance_step0`` (of x⁰) to
            ``distance_stepN``, the mean energies ``energy_step0`` to ``energy_step(N−1)``, and
            ``step_size``.

        Raises:
            NotImplementedError: the backbone cannot be differentiated twice.
        """

        def term(x: Tensor) -> dict[str, Tensor]:
            alpha = self.step_size * seen_share
            x, energies = descent_step(energy, x, alpha, create_graph=True)
            d = distance(x)
            return dict(loss=d / self.num_steps, x=x, distance=d, energy=energies.mean())

        log = {'distance_step0': distance(x)}
        collector = self.gradient_collector(x)
        with twice_differentiable(self.backbone):
            self._check_graph(energy, x)
            for n in range(1, self.num_steps + 1):
                step = collector.add(term, x)
                x = step['x']
                log[f'distance_step{n}'] = step['distance']
                log[f'energy_step{n - 1}'] = step['energy']
        return dict(loss=collector.total(), **log, step_size=self.step_size.detach())

    def chain(self, energy: Energy, x: Tensor, num_steps: int | None = None) -> Tensor:
        """Descend on an energy from x⁰ ``(B, ...)`` by N steps, as in training by default.

        Returns:
            The chain ``(N + 1, B, ...)``, the first entry being the input; no graph is kept.

        Raises:
            TypeError, ValueError: ``num_steps`` is not an integer ≥ 0.
        """
        num_steps = self.num_steps if num_steps is None else num_steps
        num_steps = checked_int('num_steps', num_steps, minimum=0)
        return descend(energy, x, self.step_size.detach(), num_steps)

    @abstractmethod
    def validation_steps(
        self, inputs: Inputs, data_samples: Samples = None, num_steps: int | None = None
    ) -> dict[str, Tensor]:
        """Restore or sort a validation batch; what :func:`split_chains` takes of every step."""

    def validation_chains(
        self, inputs: Inputs, data_samples: Samples = None, num_steps: int | None = None
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
        steps = self.validation_steps(inputs, data_samples, num_steps)
        return split_chains(**steps, data_samples=data_samples)

    def predict(self, inputs: Inputs, data_samples: Samples = None) -> list[DataSample]:
        """Restore and score a validation batch, inputs as for :meth:`loss`.

        Returns:
            ``data_samples``, or new ones, with ``clean``, ``corrupted`` and ``restored``
            ``(C, H, W)`` in pixel units (0..255, in the channel order of the network; the last two
            may lie outside) and ``energy_clean`` and ``energy_corrupted``, 0-dim.
        """
        steps = self.validation_steps(inputs, data_samples)
        fields = dict(
            clean=steps['clean'],
            corrupted=steps['images'][0],
            restored=steps['images'][-1],
            energy_clean=steps['clean_energies'],
            energy_corrupted=steps['energies'][0],
        )
        return with_fields(data_samples, fields)

    def gradient_collector(self, inputs: Tensor) -> GradientCollector:
        """A collector for the trained parameters, on the device of ``inputs``.

        Raises:
            ValueError: no parameter is trained, or gradients are switched off.
            NotImplementedError: a part of this module is an FSDP unit of its own.
        """
        _check_not_sharded(self)
        trained = [p for p in self.parameters() if p.requires_grad]
        if not trained or not torch.is_grad_enabled():
            reason = 'is called under torch.no_grad()' if trained else 'has no parameter to train'
            raise ValueError(
                f'the loss {reason}: it is made of gradients with respect to parameters. '
                "mode='predict' restores and scores without them"
            )
        device = inputs.device.type
        if self._differentiate is None:
            compiled = device != 'cpu' if self.compile_step == 'gpu' else self.compile_step
            self._differentiate = CompiledDifferentiation(self) if compiled else differentiate
        half = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device)
        return GradientCollector(
            trained, self._loss_scale if half is torch.float16 else None, self._differentiate
        )

    def _check_graph(self, energy: Energy, x: Tensor) -> None:
        """Check, once per process, that the gradient can be differentiated again."""
        if self._graph_checked:
            return
        step_size = self.step_size.detach().requires_grad_()
        # The check leaves no trace: neither in random numbers nor in running statistics.
        before = [buffer.clone() for buffer in self.buffers()]
        devices = [] if x.device.type == 'cpu' else [x.device]
        try:
            with torch.random.fork_rng(devices, device_type=x.device.type):
                e, gradient = energy_gradient(energy, x, step_size, create_graph=True)
                check_graph_of_gradient(self.backbone, e, gradient, step_size)
        finally:
            for buffer, value in zip(self.buffers(), before, strict=True):
                buffer.copy_(value)
        self._graph_checked = True


def energy_gradient(
    energy: Energy, x: Tensor, scale: Tensor | float = 1.0, create_graph: bool = False
) -> tuple[Tensor, Tensor]:
    """Energy of every sample and the gradient ``∇ₓ(scale · E(x))``.

    The scale is inside the derivative. The result is the same as with the scale outside, but in
    half precision the gradients stay in range: ``∇ₓE`` alone is of the order of 1 / pixels.

    Args:
        energy: maps x ``(B, ...)`` to energies ``(B,)``; a sample's energy must not depend on the
            other samples, or their gradients mix.
        x: ``(B, ...)``, floating point.
        scale: a factor, usually the step size α.
        create_graph: keep the graph, to differentiate the gradient again.

    Returns:
        Energies ``(B,)`` and the gradient, of the shape and type of x.

    Raises:
        ValueError: the energy is not of shape ``(B,)``.
    """
    with torch.enable_grad():
        if not torch.compiler.is_compiling():  # see CompiledDifferentiation
            x = x.detach().requires_grad_()
        e = energy(x)  # (B,)
        if e.shape != x.shape[:1]:
            raise ValueError(
                f'an energy maps (B, ...) to (B,): got {tuple(e.shape)} for an input of shape '
                f'{tuple(x.shape)}'
            )
        e = e.to(torch.promote_types(e.dtype, torch.float32))  # half precision ends here
        (gradient,) = torch.autograd.grad((scale * e).sum(), x, create_graph=create_graph)
    return e, gradient


def descent_step(
    energy: Energy, x: Tensor, step_size: Tensor | float, create_graph: bool = False
) -> tuple[Tensor, Tensor]:
    """One step ``x − ∇ₓ(α E(x))`` of equation 5, with x behind a stop-gradient.

    Arguments are those of :func:`energy_gradient`; α is positive. With ``create_graph`` the result
    can be differentiated with respect to the parameters of the energy and to α.

    Returns:
        The next x, and the energies ``(B,)`` of the given one.
    """
    e, gradient = energy_gradient(energy, x, step_size, create_graph)
    return x.detach() - gradient, e


def descend(energy: Energy, x: Tensor, step_size: Tensor | float, num_steps: int) -> Tensor:
    """The whole chain ``x⁰, ..., x^N``, ``(N + 1, B, ...)``, by N ≥ 0 steps; no graph is kept.

    Works under ``torch.no_grad()`` and ``torch.inference_mode()`` too, unless the parameters of the
    energy were created inside the latter. Arguments are those of :func:`descent_step`.
    """
    with torch.inference_mode(False):
        chain = [_without_inference_mode(x).detach()]
        step_size = _without_inference_mode(step_size)
        for _ in range(num_steps):
            x, _ = descent_step(energy, chain[-1], step_size)
            chain.append(x.detach())
        return torch.stack(chain)


def _without_inference_mode(x: Tensor | float) -> Tensor | float:
    # autograd refuses tensors made under torch.inference_mode(), but not their copies
    return x.clone() if isinstance(x, Tensor) and x.is_inference() else x


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


def with_fields(data_samples: Samples, fields: Mapping[str, Tensor]) -> list[DataSample]:
    """Write the results of a batch, ``(B, ...)`` by name, into its samples, or new ones."""
    data_samples = data_samples or [DataSample() for _ in next(iter(fields.values()))]
    for i, sample in enumerate(data_samples):
        for name, values in fields.items():
            sample.set_field(values[i], name)
    return data_samples


def _check_not_sharded(module: nn.Module) -> None:
    # FSDP gathers a unit's parameters for its forward pass only, and its gradients after it. If
    # autograd.grad asks for them they never arrive: FSDP1 would train with zeros.
    for name, part in module.named_modules():
        bases = {base.__name__ for base in type(part).__mro__}
        if part is not module and bases & {'FullyShardedDataParallel', 'FSDPModule'}:
            raise NotImplementedError(
                f'{name} is an FSDP unit, whose gradients would be lost: wrap the algorithm as '
                'one unit, or shard the optimizer only (docs/performance.md)'
            )
