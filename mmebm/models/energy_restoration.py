"""Pretraining by energy restoration (section 2.2 and algorithm 1 of the paper)."""

from collections.abc import Sequence
from typing import Any

import torch
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from torch.nn.functional import softplus

from ..autograd import GradientCollector
from ..backbones import (
    changed_patches,
    check_hidden_patches,
    hidden_patches,
    patches_to_pixels,
)
from ..utils import checked_bool, checked_number
from .base_algorithm import BaseEnergyAlgorithm, corrupted_and_clean, with_fields
from .chain import Chain, split_chains
from .descent import Energy

# B batch, C channels, H × W pixels, L patches, N descent steps.


@MODELS.register_module()
class EnergyRestorationAlgorithm(BaseEnergyAlgorithm):
    """Fit ``E(x) = h(ψ(x))`` so that descending on it restores corrupted images.

    The forward pass estimates the energy, the backward pass restores: there is no decoder, and the
    backbone needs no change.

    With ``num_steps=0`` nothing is restored and the corrupted image only serves as the negative
    (Figure A); see :meth:`contrastive_loss`. ``contrastive_weight`` adds that loss to equation 5,
    which never compares the energies of two images: ours, for networks that score images.
    ``docs/restore_and_score.md`` says what it is worth. Patch dropout is ours: the paper drops
    patches for sorting only. ``docs/fewer_operations.md`` says what it saves and costs.

    Args:
        backbone: config of ψ, or a module: anything whose output :class:`EnergyHead` reads.
        head: config of h, usually ``dict(type='EnergyHead', in_channels=...)``.
        step_size: α, or its initial value if it is learnt, > 0.
        restoration_loss: config of a loss from torch.nn for the distance of ``xⁿ`` to the clean
            image, over all pixels: ``SmoothL1Loss`` (Listing 1, the default), ``MSELoss`` (eq. 5),
            ``L1Loss`` or ``HuberLoss``.
        hide_corrupted: let the tokens of intact patches not attend to corrupted ones, and descend
            on the corrupted ones only. A corrupted patch attends to the intact ones and itself.
            Patch dropout then keeps the intact patches. Ours, not the paper's; for vision
            transformers and masks on the grid of their patches. The energy is then one of the
            corrupted patches, given the others. ``docs/small_data.md`` says what it is worth.
        contrastive_weight: factor of the contrastive loss that is added to equation 5, ≥ 0. Must
            stay 0 with ``num_steps=0``, where it is the only loss.
        **options: of :class:`BaseEnergyAlgorithm`.

    Raises:
        TypeError, ValueError: an option of the wrong type or out of range; or patches cannot be
            hidden in this backbone, or not while activations are recomputed.
    """

    def __init__(
        self,
        backbone: dict | nn.Module,
        head: dict | nn.Module,
        step_size: float = 1000.0,
        restoration_loss: dict | nn.Module | None = None,
        hide_corrupted: bool = False,
        contrastive_weight: float = 0.0,
        **options: Any,
    ):
        checked_bool('hide_corrupted', hide_corrupted)
        contrastive_weight = checked_number('contrastive_weight', contrastive_weight, low=0)
        super().__init__(backbone=backbone, head=head, step_size=step_size, **options)
        if contrastive_weight and self.num_steps == 0:
            raise ValueError(
                f'contrastive_weight={contrastive_weight} with num_steps=0, where that loss is the '
                'only one: leave contrastive_weight out'
            )
        if hide_corrupted:
            check_hidden_patches(self.backbone)
            if self.recomputed:  # in the backward pass, where nothing is hidden
                raise ValueError(
                    f'hide_corrupted=True with recompute ({len(self.recomputed)} modules): '
                    'recomputed layers would see the hidden patches. Leave one of the two out'
                )
        self.hide_corrupted = hide_corrupted
        self.contrastive_weight = contrastive_weight
        self.restoration_loss = build_restoration_loss(restoration_loss)

    def energy(self, images: Tensor, hidden: Tensor | None = None) -> Tensor:
        """``E(x) = h(ψ(x))``: low for real images, high for corrupted ones.

        Args:
            images: normalised, ``(B, C, H, W)``.
            hidden: patches ``(B, L)``, bool, that the others do not see; by default none. See
                :func:`~mmebm.backbones.hidden_patches`.

        Returns:
            ``(B,)``, float.
        """
        seen = hidden if hidden is None else self.patch_dropout.of_kept(hidden)
        with hidden_patches(seen):
            features = self.backbone(images)
        return self.energy_of_features(features)

    def corrupted_patches(self, corrupted: Tensor, clean: Tensor) -> Tensor | None:
        """The patches ``(B, L)``, bool, that ``hide_corrupted`` hides; None without it."""
        return changed_patches(self.backbone, corrupted, clean) if self.hide_corrupted else None

    def descended_energy(self, images: Tensor, hidden: Tensor | None) -> Energy:
        """The energy that a chain from ``images`` descends on.

        With hidden patches, it depends on the pixels of these alone.
        """
        if hidden is None:
            return self.energy
        pixels = patches_to_pixels(self.backbone, hidden)
        return lambda x: self.energy(torch.where(pixels, x, images), hidden)

    def restore(
        self, images: Tensor, num_steps: int | None = None, hidden: Tensor | None = None
    ) -> Tensor:
        """Descend on the energy from ``images``; keeps no graph, works under ``torch.no_grad()``.

        Args:
            images: normalised, ``(B, C, H, W)``.
            num_steps: N ≥ 0; by default as in training.
            hidden: with ``hide_corrupted``, the corrupted patches ``(B, L)``, bool.

        Returns:
            The chain ``(N + 1, B, C, H, W)``, the first entry being the input.

        Raises:
            TypeError, ValueError: ``num_steps`` is not an integer ≥ 0; or ``hidden`` is missing
                with ``hide_corrupted``, or given without it.
        """
        if self.hide_corrupted != (hidden is not None):
            raise ValueError(
                f'hide_corrupted={self.hide_corrupted}, but restore() got '
                f'hidden={"patches" if hidden is not None else None}: it takes the corrupted '
                'patches (B, L) with hide_corrupted=True, and nothing without it'
            )
        return self.chain(self.descended_energy(images, hidden), images, num_steps)

    def loss(
        self, inputs: Sequence[Tensor], data_samples: list[DataSample] | None = None
    ) -> dict[str, Tensor]:
        """Equation 5: the mean over the steps of the distance of ``xⁿ`` to the clean image.

        With ``contrastive_weight``, plus that times :meth:`contrastive_loss`. If patches are
        dropped, the distance is over the pixels of the others, and all steps of a chain drop the
        same ones.

        Args:
            inputs: ``[corrupted, clean]``, each ``(B, C, H, W)``, normalised.
            data_samples: not used.

        Returns:
            See :meth:`chain_loss`; with ``contrastive_weight`` also ``energy_clean``, the mean.
        """
        corrupted, clean = corrupted_and_clean(inputs)
        if self.num_steps == 0:
            return self.contrastive_loss(corrupted, clean)
        dropout = self.patch_dropout

        def distance(x: Tensor) -> Tensor:
            # A clone, since smooth_l1_loss returns its mean in a buffer as large as the images.
            return self.restoration_loss(dropout.pixels(x), dropout.pixels(clean)).clone()

        hidden = self.corrupted_patches(corrupted, clean)
        collector, log = self.gradient_collector(corrupted), {}
        with dropout.drawn(clean, last=None if hidden is None else ~hidden):
            if self.contrastive_weight:
                _, e = self.contrast(collector, corrupted, clean, hidden, self.contrastive_weight)
                log = dict(energy_clean=e.mean())
            energy = self.descended_energy(corrupted, hidden)
            return self.chain_loss(energy, distance, corrupted, collector) | log

    def contrastive_loss(self, corrupted: Tensor, clean: Tensor) -> dict[str, Tensor]:
        """N = 0 (Figure A): tell corrupted images (high energy) from clean ones (low energy).

        Ours is the logistic loss, because the plain difference of energies (eq. 3) has no lower
        bound; the paper does not say which one it uses.

        Args:
            corrupted, clean: ``(B, C, H, W)``, normalised.

        Returns:
            ``loss``, 0-dim and differentiable, and for the log: ``distance_step0``,
            ``energy_step0``, ``energy_clean`` and ``step_size``.
        """
        collector, dropout = self.gradient_collector(corrupted), self.patch_dropout
        hidden = self.corrupted_patches(corrupted, clean)
        with dropout.drawn(clean, last=None if hidden is None else ~hidden):
            distance = self.restoration_loss(dropout.pixels(corrupted), dropout.pixels(clean))
            energy_corrupted, energy_clean = self.contrast(collector, corrupted, clean, hidden)
        return dict(
            loss=collector.total(),
            distance_step0=distance.clone(),
            energy_step0=energy_corrupted.mean(),
            energy_clean=energy_clean.mean(),
            step_size=self.step_size.detach(),
        )

    def contrast(
        self,
        collector: GradientCollector,
        corrupted: Tensor,
        clean: Tensor,
        hidden: Tensor | None,
        weight: float = 1.0,
    ) -> tuple[Tensor, Tensor]:
        """Add ``weight`` times the logistic loss to what the collector holds.

        Args:
            collector: see :meth:`gradient_collector`.
            corrupted, clean: normalised, ``(B, C, H, W)``.
            hidden: patches ``(B, L)``, bool, that the others do not see; None for none.
            weight: > 0.

        Returns:
            The energies, corrupted and clean, ``(B,)`` each.
        """

        def term(corrupted: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
            energies = self.energy(corrupted, hidden), self.energy(clean, hidden)
            return weight * logistic_loss(*energies), energies

        return collector.differentiate(term, corrupted)

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
        hidden = self.corrupted_patches(corrupted, clean)
        restored = self.restore(corrupted, hidden=hidden)[-1]
        with torch.no_grad():
            fields = dict(
                clean=self.to_pixels(clean),
                corrupted=self.to_pixels(corrupted),
                restored=self.to_pixels(restored),
                energy_clean=self.energy(clean, hidden).float(),
                energy_corrupted=self.energy(corrupted, hidden).float(),
            )
        return with_fields(data_samples, fields)

    def validation_chains(
        self,
        inputs: Sequence[Tensor],
        data_samples: Sequence[DataSample] | None = None,
        num_steps: int | None = None,
    ) -> list[Chain]:
        """Restore a validation batch; see :meth:`BaseEnergyAlgorithm.validation_chains`."""
        corrupted, clean = corrupted_and_clean(inputs)
        hidden = self.corrupted_patches(corrupted, clean)
        chain = self.restore(corrupted, num_steps, hidden)  # (N + 1, B, C, H, W)
        with torch.no_grad():
            return split_chains(
                images=self.to_pixels(chain),
                energies=torch.stack([self.energy(x, hidden).float() for x in chain]),
                clean=self.to_pixels(clean),
                clean_energies=self.energy(clean, hidden).float(),
                data_samples=data_samples,
            )


def logistic_loss(energy_corrupted: Tensor, energy_clean: Tensor) -> Tensor:
    """Logistic loss of telling corrupted from clean by energy; energies ``(B,)``, result 0-dim."""
    return (softplus(-energy_corrupted) + softplus(energy_clean)).mean() / 2


def build_restoration_loss(loss: dict | nn.Module | None = None) -> nn.Module:
    """The distance between images.

    Args:
        loss: a module, or config of one of torch.nn; by default Listing 1's ``SmoothL1Loss``.

    Raises:
        TypeError, ValueError: not one of these losses, or a bad option.
    """
    if isinstance(loss, nn.Module):
        return loss
    options = dict(loss or dict(type='SmoothL1Loss', beta=1.0))
    name = options.pop('type', None)
    choices = {c.__name__: c for c in (nn.SmoothL1Loss, nn.MSELoss, nn.L1Loss, nn.HuberLoss)}
    if name not in choices:
        raise ValueError(f'restoration_loss type must be one of {sorted(choices)}, got {name!r}')
    for threshold in ('beta', 'delta'):
        if threshold in options:
            checked_number(f'restoration_loss.{threshold}', options[threshold], 0)
    try:
        return choices[name](**options)
    except TypeError as error:
        raise TypeError(f'restoration_loss {name}: {error}') from error
