"""Pretraining by energy restoration (section 2.2 and algorithm 1 of the paper)."""

from typing import Any

import torch
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torch.nn.functional import softplus

from ..backbones import PatchSelection, kept_patches
from ..backbones.patch_dropout import check_patch_dropout, pixels_of_patches
from ..backbones.position_embedding import check_image_size, find_position_embedding
from ..utils import checked_number
from .base_algorithm import BaseEnergyAlgorithm, Distance, Inputs, Samples, corrupted_and_clean

# B batch, C channels, H × W pixels, L patches, N descent steps.


@MODELS.register_module()
class EnergyRestorationAlgorithm(BaseEnergyAlgorithm):
    """Fit ``E(x) = h(ψ(x))`` so that descending on it restores corrupted images.

    The forward pass estimates the energy, the backward pass restores: there is no decoder, and the
    backbone needs no change.

    With ``num_steps=0`` nothing is restored and the corrupted image only serves as the negative
    (Figure A); see :meth:`contrastive_loss`. Patch dropout is ours: the paper drops patches for
    sorting only. ``docs/performance.md`` says what it saves and costs.

    Args:
        backbone: config of ψ, or a module: anything whose output :class:`EnergyHead` reads.
        head, step_size, **options: of :class:`BaseEnergyAlgorithm`.
        restoration_loss: config of a loss from torch.nn for the distance of ``xⁿ`` to the clean
            image, over all pixels: ``SmoothL1Loss`` (Listing 1, the default), ``MSELoss`` (eq. 5),
            ``L1Loss`` or ``HuberLoss``.
        patch_drop_ratio: the share of patches, in [0, 1), that the transformer layers do not see in
            training, drawn for each image and iteration; the distance is then over the pixels of
            the others. Needs a vision transformer with an absolute position embedding.

    Raises:
        TypeError, ValueError: an option of the wrong type or out of range; or patches cannot be
            dropped in this backbone.
    """

    def __init__(
        self,
        backbone: dict | nn.Module,
        head: dict | nn.Module,
        step_size: float = 1000.0,
        restoration_loss: dict | nn.Module | None = None,
        patch_drop_ratio: float = 0.0,
        **options: Any,
    ):
        super().__init__(backbone=backbone, head=head, step_size=step_size, **options)
        check_patch_dropout(self.backbone, patch_drop_ratio)
        self.patch_drop_ratio = patch_drop_ratio
        if patch_drop_ratio:
            self.selection = PatchSelection(self.backbone)
        self.restoration_loss = build_restoration_loss(restoration_loss)

    def energy(self, images: Tensor) -> Tensor:
        """``E(x) = h(ψ(x))``, ``(B,)``: low for real images ``(B, C, H, W)``, high for corrupted.

        Images are normalised.
        """
        return self.energy_of_features(self.backbone(images))

    def restore(self, images: Tensor, num_steps: int | None = None) -> Tensor:
        """The chain of a descent from images ``(B, C, H, W)``, normalised; see :meth:`chain`.

        Works under ``torch.no_grad()`` too.
        """
        return self.chain(self.energy, images, num_steps)

    def loss(self, inputs: Inputs, data_samples: Samples = None) -> dict[str, Tensor]:
        """Equation 5: the mean over the steps of the distance of ``xⁿ`` to the clean image.

        Args:
            inputs: ``[corrupted, clean]``, each ``(B, C, H, W)``, normalised.
            data_samples: not used.

        Returns:
            See :meth:`chain_loss`; with N = 0, :meth:`contrastive_loss`.
        """
        corrupted, clean = corrupted_and_clean(inputs)
        if self.patch_drop_ratio:
            return self._loss_with_patch_dropout(corrupted, clean)

        def distance(x: Tensor) -> Tensor:
            # A clone, since smooth_l1_loss returns its mean in a buffer as large as the images.
            return self.restoration_loss(x, clean).clone()

        if self.num_steps == 0:
            return self.contrastive_loss(corrupted, clean, distance)
        return self.chain_loss(self.energy, distance, corrupted)

    def _loss_with_patch_dropout(self, corrupted: Tensor, clean: Tensor) -> dict[str, Tensor]:
        """As :meth:`loss`, over patches that all steps of a chain share."""
        check_image_size(self.backbone, clean)
        patch_size, total = find_position_embedding(self.backbone).patch_size, self.selection.total
        noise = torch.rand(len(clean), total, device=clean.device)
        kept = kept_patches(noise, self.patch_drop_ratio)  # (B, K)
        target = pixels_of_patches(clean, kept, patch_size)

        def distance(x: Tensor) -> Tensor:
            return self.restoration_loss(pixels_of_patches(x, kept, patch_size), target).clone()

        with self.selection.only(kept):
            if self.num_steps == 0:
                return self.contrastive_loss(corrupted, clean, distance)
            return self.chain_loss(self.energy, distance, corrupted, kept.shape[1] / total)

    def contrastive_loss(
        self, corrupted: Tensor, clean: Tensor, distance: Distance
    ) -> dict[str, Tensor]:
        """N = 0 (Figure A): tell corrupted images (high energy) from clean ones (low energy).

        Ours is the logistic loss, because the plain difference of energies (eq. 3) has no lower
        bound; the paper does not say which one it uses.

        Returns ``loss``, and for the log ``distance_step0``, the mean energies ``energy_step0`` and
        ``energy_clean``, and ``step_size``.
        """

        def contrast(corrupted: Tensor) -> dict[str, Tensor]:
            high, low = self.energy(corrupted), self.energy(clean)
            loss = logistic_loss(high, low)
            return dict(loss=loss, energy_step0=high.mean(), energy_clean=low.mean())

        collector = self.gradient_collector(corrupted)
        log = collector.add(contrast, corrupted) | dict(
            distance_step0=distance(corrupted), step_size=self.step_size.detach()
        )
        return log | dict(loss=collector.total())

    def validation_steps(
        self, inputs: Inputs, data_samples: Samples = None, num_steps: int | None = None
    ) -> dict[str, Tensor]:
        """See :class:`BaseEnergyAlgorithm`."""
        corrupted, clean = corrupted_and_clean(inputs)
        chain = self.restore(corrupted, num_steps)  # (N + 1, B, C, H, W)
        with torch.no_grad():
            return dict(
                images=self.to_pixels(chain),
                energies=torch.stack([self.energy(x).float() for x in chain]),
                clean=self.to_pixels(clean),
                clean_energies=self.energy(clean).float(),
            )


def logistic_loss(energy_corrupted: Tensor, energy_clean: Tensor) -> Tensor:
    """Logistic loss of telling corrupted from clean by energy; energies ``(B,)``, result 0-dim."""
    return (softplus(-energy_corrupted) + softplus(energy_clean)).mean() / 2


def build_restoration_loss(loss: dict | nn.Module | None = None) -> nn.Module:
    """The distance between images: a module, or config of one of torch.nn; by default Listing 1's.

    Raises:
        TypeError, ValueError: not one of these losses, or a bad option.
    """
    if not isinstance(loss, nn.Module):
        options = dict(loss or dict(type='SmoothL1Loss', beta=1.0))
        name = options.pop('type', None)
        choices = {c.__name__: c for c in (nn.SmoothL1Loss, nn.MSELoss, nn.L1Loss, nn.HuberLoss)}
        if name not in choices:
            raise ValueError(f'restoration_loss type must be one of {[*choices]}, got {name!r}')
        for threshold in ('beta', 'delta'):
            if threshold in options:
                checked_number(f'restoration_loss.{threshold}', options[threshold], 0)
        loss = choices[name](**options)
    if getattr(loss, 'reduction', None) == 'none':
        raise ValueError("restoration_loss must give one number: reduction='mean', got 'none'")
    return loss
