"""Pretraining by energy restoration (section 2.2 and algorithm 1 of the paper)."""

from collections.abc import Sequence

import torch
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from torch.nn.functional import softplus

from .base_energy_algorithm import BaseEnergyAlgorithm
from .batch import corrupted_and_clean, with_fields
from .patch_dropout import PatchDropout
from .second_derivative import twice_differentiable

# B batch, C channels, H × W pixels, N descent steps.


@MODELS.register_module()
class EnergyRestorationAlgorithm(BaseEnergyAlgorithm):
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
        patch_drop_ratio: the share of patches, in [0, 1), that the transformer layers do not see in
            training, drawn anew for each image and iteration; the distance is then over the pixels
            of the others. The paper drops patches for sorting only; what it saves and costs here is
            in ``docs/fewer_operations.md``. Needs a vision transformer with an absolute position
            embedding, and images of the size that it was built for.
        data_preprocessor: config of ``RestorationDataPreprocessor``, or of MMPretrain's
            ``SelfSupDataPreprocessor`` where no noise is left to the device.
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
        neck: dict | nn.Module | None = None,
        num_steps: int = 2,
        step_size: float = 1000.0,
        learnable_step_size: bool = True,
        restoration_loss: dict | nn.Module | None = None,
        patch_drop_ratio: float = 0.0,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | list | None = None,
        compile_step: bool = False,
        recompute: Sequence[str] = (),
    ):
        super().__init__(
            backbone,
            head,
            neck,
            num_steps,
            step_size,
            learnable_step_size,
            data_preprocessor,
            init_cfg,
            compile_step,
            recompute,
        )
        restoration_loss = restoration_loss or dict(type='SmoothL1Loss', beta=1.0)
        self.restoration_loss = _build_restoration_loss(restoration_loss)
        self.patch_dropout = PatchDropout(self.backbone, patch_drop_ratio)

    def energy(self, images: Tensor) -> Tensor:
        """``E(x) = h(ψ(x))``: low for real images, high for corrupted ones.

        Args:
            images: normalised, ``(B, C, H, W)``.

        Returns:
            ``(B,)``, float.
        """
        return self.energy_of_features(self.backbone(images))

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
        return self.chain(self.energy, images, num_steps)

    def loss(
        self, inputs: Sequence[Tensor], data_samples: list[DataSample] | None = None
    ) -> dict[str, Tensor]:
        """Equation 5: the mean over the steps of the distance of ``xⁿ`` to the clean image.

        Each step's gradient is collected before the next step begins, so that peak memory does not
        grow with N; see :class:`.GradientCollector`.

        The steps of a chain share the dropped patches: so a later step meets patches that have all
        been restored as often, as in restoration, where none is dropped.

        Args:
            inputs: ``[corrupted, clean]``, each ``(B, C, H, W)``, normalised.
            data_samples: not used.

        Returns:
            ``loss``, 0-dim and differentiable, and for the log: ``distance_step0`` (of the
            corrupted image) to ``distance_stepN``, the mean energies ``energy_step0`` to
            ``energy_step(N−1)``, and ``step_size``.
        """
        corrupted, clean = corrupted_and_clean(inputs)
        collector, dropout = self.gradient_collector(corrupted), self.patch_dropout

        def energy(x: Tensor) -> Tensor:
            # An average over fewer patches gives each a larger gradient than in restoration.
            return dropout.share * self.energy(x)

        def distance(x: Tensor) -> Tensor:
            return self.restoration_loss(dropout.pixels(x), dropout.pixels(clean))

        with twice_differentiable(self.backbone), dropout.drawn(clean):
            # A clone, since smooth_l1_loss returns its mean in a buffer as large as the images.
            log = {'distance_step0': distance(corrupted).clone()}
            if self.num_steps == 0:
                energies = self.energy(corrupted), self.energy(clean)
                collector.differentiate(contrastive_loss(*energies))
                log['energy_step0'], log['energy_clean'] = (e.detach().mean() for e in energies)
            x = corrupted
            for n in range(1, self.num_steps + 1):
                step = self.training_step(energy, distance, x, collector)
                x = step.x
                log[f'distance_step{n}'] = step.distance
                log[f'energy_step{n - 1}'] = step.energies.mean() / dropout.share
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
        corrupted, clean = corrupted_and_clean(inputs)
        restored = self.restore(corrupted)[-1]
        with torch.no_grad():
            fields = dict(
                clean=self.to_pixels(clean),
                corrupted=self.to_pixels(corrupted),
                restored=self.to_pixels(restored),
                energy_clean=self.energy(clean).float(),
                energy_corrupted=self.energy(corrupted).float(),
            )
        return with_fields(data_samples, fields)


def contrastive_loss(energy_corrupted: Tensor, energy_clean: Tensor) -> Tensor:
    """Logistic loss of telling corrupted from clean by energy; energies ``(B,)``, result 0-dim."""
    return (softplus(-energy_corrupted) + softplus(energy_clean)).mean() / 2


def _build_restoration_loss(loss: dict | nn.Module) -> nn.Module:
    if isinstance(loss, nn.Module):
        return loss
    options = dict(loss)
    name = options.pop('type', None)
    choices = {c.__name__: c for c in (nn.SmoothL1Loss, nn.MSELoss, nn.L1Loss, nn.HuberLoss)}
    if name not in choices:
        raise ValueError(f'restoration_loss type must be one of {sorted(choices)}, got {name!r}')
    return choices[name](**options)
