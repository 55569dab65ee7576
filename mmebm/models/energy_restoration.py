"""Pretraining by energy restoration (section 2.2 and algorithm 1 of the paper)."""

import re
from collections.abc import Sequence
from contextlib import contextmanager

import torch
from mmpretrain.models import BaseSelfSupervisor
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import softplus

from .descent import descend, descent_step
from .gradient_collection import GradientCollector

# B batch, C channels, H × W pixels, N descent steps.

# What autograd says when an operation has no second derivative, with the operation's name.
_NO_SECOND_DERIVATIVE = re.compile(
    r'derivative for (\S+) is not implemented'
    r'|Trying to backward through (\S+) that is not double differentiable'
)


@contextmanager
def twice_differentiable(backbone: nn.Module):
    """Switch fused attention off, and say what to do where a second derivative is missing.

    Fused attention kernels have a first derivative only; PyTorch's mathematical form of the same
    function has all of them. The switch is thread-local and ends with the block.

    Raises:
        NotImplementedError: an operation in the block cannot be differentiated twice; names it.
    """
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    except RuntimeError as error:
        found = _NO_SECOND_DERIVATIVE.search(str(error))
        if found is None:
            raise
        raise _no_second_derivative(backbone, found[1] or found[2]) from error


def check_graph_of_gradient(backbone: nn.Module, energy: Tensor, gradient: Tensor) -> None:
    """Refuse functions marked ``once_differentiable``, which cut the graph without a word.

    Args:
        backbone: to name it.
        energy: with its graph.
        gradient: of the energy, with its graph.

    Raises:
        NotImplementedError: there is such a function; names it.
    """
    if any(type(node).__name__ == 'Error' for node in _nodes(gradient.grad_fn)):
        marked = {
            type(node).__name__.removesuffix('Backward')
            for node in _nodes(energy.grad_fn)
            if hasattr(
                getattr(getattr(node, '_forward_cls', None), 'backward', None), '__wrapped__'
            )
        }
        names = ', '.join(sorted(marked)) or 'a function'
        raise _no_second_derivative(backbone, f'{names} (marked @once_differentiable)')


def _nodes(root):
    """All nodes of an autograd graph."""
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting.extend(child for child, _ in node.next_functions)
    return seen


def _no_second_derivative(backbone: nn.Module, operation: str) -> NotImplementedError:
    return NotImplementedError(
        f'{type(backbone).__name__} cannot be pretrained by energy restoration: {operation} has no '
        'second derivative. Replace it by differentiable operations; often an option of the '
        'backbone switches a fused or custom kernel off.'
    )


@MODELS.register_module()
class EnergyRestorationAlgorithm(BaseSelfSupervisor):
    """Fit ``E(x) = h(ψ(x))`` so that descending on it restores corrupted images.

    The forward pass estimates the energy, the backward pass restores: there is no decoder, and the
    backbone needs no change.

    Args:
        backbone: config of ψ, or a module: anything whose output :class:`EnergyHead` reads.
        head: config of h, usually ``dict(type='EnergyHead', in_channels=...)``.
        neck: config of a module between the two. Defaults to none.
        num_steps: N, descent steps per image while training, ≥ 0. The paper uses 2. With 0 nothing
            is restored and the corrupted image only serves as the negative (Figure A): the loss is
            then the logistic loss of telling corrupted (high energy) from clean (low energy), since
            the plain difference of energies (eq. 3) has no lower bound; the paper is silent here.
        step_size: α, or its initial value where it is learnt, > 0. The paper is silent;
            ``docs/step_size.md`` has our measurement.
        learnable_step_size: whether α is trained with the network. What is trained is log α, so
            that α stays positive and moves by a share of itself.
        restoration_loss: config of a loss module from torch.nn for the distance of ``xⁿ`` to the
            clean image, over all pixels: ``SmoothL1Loss`` (Listing 1) or ``MSELoss`` (eq. 5).
        data_preprocessor: config of MMPretrain's ``SelfSupDataPreprocessor``.
        init_cfg: MMEngine's initialisation config.

    Raises:
        TypeError, ValueError: an option of the wrong kind or out of its range.
    """

    def __init__(
        self,
        backbone: dict | nn.Module,
        head: dict | nn.Module,
        neck: dict | nn.Module | None = None,
        num_steps: int = 2,
        step_size: float = 300.0,
        learnable_step_size: bool = True,
        restoration_loss: dict | nn.Module | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | list | None = None,
    ):
        if not isinstance(num_steps, int) or isinstance(num_steps, bool):
            raise TypeError(f'num_steps must be an integer ≥ 0, got {num_steps!r}')
        if num_steps < 0:
            raise ValueError(f'num_steps must be an integer ≥ 0, got {num_steps}')
        if not isinstance(step_size, int | float) or isinstance(step_size, bool):
            raise TypeError(f'step_size must be a number > 0, got {step_size!r}')
        if not 0 < step_size < float('inf'):
            raise ValueError(f'step_size must be a finite number > 0, got {step_size}')
        super().__init__(
            backbone=backbone,
            neck=neck,
            head=head,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
        self.num_steps = num_steps
        restoration_loss = restoration_loss or dict(type='SmoothL1Loss', beta=1.0)
        self.restoration_loss = _build_restoration_loss(restoration_loss)
        log_step_size = torch.tensor(float(step_size)).log()
        if learnable_step_size:
            self.log_step_size = nn.Parameter(log_step_size)
        else:
            self.register_buffer('log_step_size', log_step_size)
        self._graph_checked = False  # once per process
        # Where float16 is used: the loss scale that the last backward saw, 2**16 to begin with like
        # torch's GradScaler.
        self.register_buffer('_loss_scale', torch.tensor(2.0**16), persistent=False)

    @property
    def step_size(self) -> Tensor:
        """α, a 0-dim tensor in units of pixels² (after normalisation) per energy."""
        return self.log_step_size.exp()

    def energy(self, images: Tensor) -> Tensor:
        """``E(x) = h(ψ(x))``: low for real images, high for corrupted ones.

        Args:
            images: normalised, ``(B, C, H, W)``.

        Returns:
            ``(B,)``, float.
        """
        features = self.backbone(images)
        if self.with_neck:
            features = self.neck(features)
        return self.head(features)

    def restore(self, images: Tensor, num_steps: int | None = None) -> Tensor:
        """Descend on the energy from ``images``; keeps no graph, works under ``torch.no_grad()``.

        Args:
            images: normalised, ``(B, C, H, W)``.
            num_steps: N ≥ 0, the number trained with by default.

        Returns:
            The chain ``(N + 1, B, C, H, W)``, the first entry being the input.

        Raises:
            ValueError: ``num_steps`` is negative.
        """
        num_steps = self.num_steps if num_steps is None else num_steps
        if num_steps < 0:
            raise ValueError(f'num_steps must be an integer ≥ 0, got {num_steps}')
        return descend(self.energy, images, self.step_size.detach(), num_steps)

    def loss(
        self, inputs: Sequence[Tensor], data_samples: list[DataSample] | None = None
    ) -> dict[str, Tensor]:
        """Equation 5: the mean over the steps of the distance of ``xⁿ`` to the clean image.

        Each step's gradient is collected before the next step begins, so that peak memory does not
        grow with N; see :class:`GradientCollector`.

        Args:
            inputs: ``[corrupted, clean]``, each ``(B, C, H, W)``, normalised.
            data_samples: not used.

        Returns:
            ``loss``, 0-dim and differentiable, and for the log: ``distance_step0`` (of the
            corrupted image) to ``distance_stepN``, the mean energies ``energy_step0`` to
            ``energy_step(N−1)``, and ``step_size``.
        """
        corrupted, clean = _corrupted_and_clean(inputs)
        collector = GradientCollector(
            [p for p in self.parameters() if p.requires_grad],
            self._loss_scale if _autocast_dtype(corrupted) is torch.float16 else None,
        )
        # Clones, since smooth_l1_loss returns its mean in a buffer as large as the images.
        log = {'distance_step0': self.restoration_loss(corrupted, clean).clone()}
        with twice_differentiable(self.backbone):
            if self.num_steps == 0:
                energies = self.energy(corrupted), self.energy(clean)
                collector.add(contrastive_loss(*energies))
                log['energy_step0'], log['energy_clean'] = (e.detach().mean() for e in energies)
            x = corrupted
            for n in range(1, self.num_steps + 1):
                x, energy = descent_step(self.energy, x, self.step_size, create_graph=True)
                if not self._graph_checked:
                    check_graph_of_gradient(self.backbone, energy, x)
                    self._graph_checked = True
                distance = self.restoration_loss(x, clean)
                collector.add(distance / self.num_steps)
                x = x.detach()
                log[f'distance_step{n}'] = distance.detach().clone()
                log[f'energy_step{n - 1}'] = energy.detach().mean()
        log['step_size'] = self.step_size.detach()
        return dict(loss=collector.total(), **log)

    def predict(
        self, inputs: Sequence[Tensor], data_samples: list[DataSample] | None = None
    ) -> list[DataSample]:
        """Restore and score a validation batch.

        Args:
            inputs: ``[corrupted, clean]``, each ``(B, C, H, W)``, normalised.
            data_samples: B samples to add to; new ones by default.

        Returns:
            The samples, with ``clean``, ``corrupted`` and ``restored`` ``(C, H, W)`` in pixel
            units (0..255, in the channel order of the network; the last two may lie outside) and
            ``energy_clean`` and ``energy_corrupted``, 0-dim.
        """
        corrupted, clean = _corrupted_and_clean(inputs)
        restored = self.restore(corrupted)[-1]
        with torch.no_grad():
            fields = dict(
                clean=self.to_pixels(clean),
                corrupted=self.to_pixels(corrupted),
                restored=self.to_pixels(restored),
                energy_clean=self.energy(clean).float(),
                energy_corrupted=self.energy(corrupted).float(),
            )
        data_samples = data_samples or [DataSample() for _ in clean]
        for i, sample in enumerate(data_samples):
            for name, values in fields.items():
                sample.set_field(values[i], name)
        return data_samples

    def to_pixels(self, images: Tensor) -> Tensor:
        """Undo the normalisation of the data preprocessor: ``(..., C, H, W)`` in 0..255."""
        preprocessor = self.data_preprocessor
        if not preprocessor._enable_normalize:
            return images
        return images * preprocessor.std + preprocessor.mean

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


def contrastive_loss(energy_corrupted: Tensor, energy_clean: Tensor) -> Tensor:
    """Logistic loss of telling corrupted from clean by energy; energies ``(B,)``, result 0-dim."""
    return (softplus(-energy_corrupted) + softplus(energy_clean)).mean() / 2


def _corrupted_and_clean(inputs) -> tuple[Tensor, Tensor]:
    if not isinstance(inputs, Sequence) or len(inputs) != 2:
        got = f'{len(inputs)} of them' if isinstance(inputs, Sequence) else type(inputs).__name__
        raise TypeError(
            f'inputs must be [corrupted, clean], two tensors (B, C, H, W), got {got}. Is a '
            'corruption missing in the pipeline?'
        )
    return inputs[0], inputs[1]


def _autocast_dtype(x: Tensor) -> torch.dtype | None:
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None


def _build_restoration_loss(loss: dict | nn.Module) -> nn.Module:
    if isinstance(loss, nn.Module):
        return loss
    options = dict(loss)
    name = options.pop('type', None)
    choices = {c.__name__: c for c in (nn.SmoothL1Loss, nn.MSELoss, nn.L1Loss, nn.HuberLoss)}
    if name not in choices:
        raise ValueError(f'restoration_loss type must be one of {sorted(choices)}, got {name!r}')
    return choices[name](**options)
