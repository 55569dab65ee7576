"""Pretraining by inpainting: an energy of masked patches, given the others. It is ours."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torch.nn.functional import fold, max_pool2d, pad, unfold

from ..backbones import PatchSelection, find_position_embedding
from ..backbones.patch_dropout import pixels_of_patches
from ..backbones.position_embedding import check_image_size
from ..utils import checked_bool
from .base_algorithm import BaseEnergyAlgorithm, Inputs, Samples, corrupted_and_clean
from .energy_restoration import build_restoration_loss
from .patch_energy_head import PatchEnergyHead

# B batch, C channels, H × W pixels, L patches of ph × pw pixels: K visible, M masked ones;
# P = C · ph · pw values of a patch, F of its description; T extra tokens (class token), D channels,
# N descent steps.


class Masked(NamedTuple):
    """Which patches are masked, and what the energy is conditioned on.

    Attributes:
        images: ``(B, C, H, W)``, read at the visible patches only.
        visible: the numbers of the visible patches, ``(B, K)``.
        masked: the numbers of the masked ones, ``(B, M)``.
    """

    images: Tensor
    visible: Tensor
    masked: Tensor


@MODELS.register_module()
class EnergyInpaintingAlgorithm(BaseEnergyAlgorithm):
    """Fit ``E(x) = Σₘ h(xₘ | ψ(x_visible)) / L`` so that descending on it fills masked patches in.

    Equation 5 with a conditional energy. The backbone ψ sees only the visible patches, as MAE's
    encoder does, and the head h assigns an energy to a masked patch. So the descent passes through
    the head alone: the backbone is differentiated once, not twice, and does not have to predict
    what is missing (``docs/small_data.md``). Linear layers and the patch embedding start as MAE's
    do, unless ``init_cfg`` is given.

    Args:
        backbone: config of ψ, or a module: a vision transformer with an absolute position
            embedding that returns its tokens, ``VisionTransformer`` with ``out_type='raw'`` or
            timm's.
        head: config of h, ``dict(type='PatchEnergyHead', ...)``.
        step_size, **options: of :class:`BaseEnergyAlgorithm`, with ``num_steps`` ≥ 1.
        restoration_loss: see :class:`EnergyRestorationAlgorithm`; over the masked patches.
        norm_pix: restore each patch up to its mean and variance, which are 0 and 1 then, as with
            the option of this name of MMPretrain's ``MAEPretrainHead``. Better features
            (``docs/small_data.md``), but pictures need the mean and variance of the clean patch.
        target_generator: config of a module that describes the patches of clean images,
            ``(B, C, H, W)`` → ``(B, L, F)``, by F = ``values`` numbers each:
            ``dict(type='PatchHOG', ...)``. The energy is then that of a patch's pixels and its
            description, and the descent restores both: the description from 0, up to its mean and
            variance. Better features (``docs/small_data.md``).

    Raises:
        TypeError, ValueError: an option of the wrong type or out of range; a backbone without
            absolute position embedding; or a head for other patches than the backbone's.
    """

    def __init__(
        self,
        backbone: dict | nn.Module,
        head: dict | nn.Module,
        step_size: float = 300.0,
        restoration_loss: dict | nn.Module | None = None,
        norm_pix: bool = False,
        target_generator: dict | nn.Module | None = None,
        **options: Any,
    ):
        checked_bool('norm_pix', norm_pix)
        starts_as_mae = options.get('init_cfg') is None
        if starts_as_mae:
            options['init_cfg'] = dict(type='Xavier', layer='Linear', distribution='uniform')
        super().__init__(backbone=backbone, head=head, step_size=step_size, **options)
        self._starts_as_mae = starts_as_mae
        if self.num_steps == 0:
            raise ValueError('num_steps must be an integer ≥ 1 for inpainting, got 0')
        found = find_position_embedding(self.backbone)
        if not isinstance(self.head, PatchEnergyHead):
            raise TypeError(f'head must be a PatchEnergyHead, got {type(self.head).__name__}')
        for name in ('grid', 'patch_size'):
            if getattr(self.head, name) != getattr(found, name):
                raise ValueError(
                    f'head.{name}={getattr(self.head, name)} must be that of the backbone, '
                    f'{getattr(found, name)}'
                )
        self.selection = PatchSelection(self.backbone)
        self.target_generator = self._build_target_generator(target_generator)
        self.grid, self.patch_size = found.grid, found.patch_size
        self.num_patches = found.num_patches
        self.norm_pix = norm_pix
        self.restoration_loss = build_restoration_loss(restoration_loss)

    def _build_target_generator(self, config: dict | nn.Module | None) -> nn.Module | None:
        module = MODELS.build(config) if isinstance(config, dict) else config
        size = getattr(module, 'patch_size', self.head.patch_size if module is None else None)
        values = getattr(module, 'values', 0 if module is None else None)
        if (size, values) != (self.head.patch_size, self.head.extra_values):
            raise ValueError(
                f'target_generator must describe patches of head.patch_size={self.head.patch_size} '
                f'by head.extra_values={self.head.extra_values} values each, as PatchHOG does; got '
                f'{type(module).__name__} with patch_size={size}, values={values}'
            )
        return module

    def init_weights(self) -> None:
        """Initialise as MMEngine does, the patch embedding as MAE's."""
        if self._starts_as_mae:
            name = find_position_embedding(self.backbone).name
            embedding = self.backbone.get_submodule(name.rpartition('.')[0]).patch_embed
            (convolution,) = (m for m in embedding.modules() if isinstance(m, nn.Conv2d))
            nn.init.xavier_uniform_(convolution.weight.data.flatten(1))
        super().init_weights()

    def tokens(self, images: Tensor, visible: Tensor) -> Tensor:
        """``ψ(x_visible)``: features of the extra tokens and the visible patches ``(B, T + K, D)``.

        Raises:
            ValueError: the backbone does not return its tokens.
        """
        with self.selection.only(visible):
            features = self.backbone(images)
        while isinstance(features, Sequence):
            features = features[-1]
        if features.dim() != 3 or features.shape[1] < visible.shape[1]:
            raise ValueError(
                'inpainting needs a backbone that returns its tokens (B, L, D), got features of '
                f"shape {tuple(features.shape)}: set out_type='raw' (MMPretrain) or global_pool='' "
                '(timm)'
            )
        return features

    def energy(self, patches: Tensor, given: Masked) -> Tensor:
        """``E(x) = Σₘ h(xₘ | ψ(x_visible)) / L`` of masked patches ``(B, M, P + F)`` → ``(B,)``."""
        features = self.tokens(given.images, given.visible)
        energies = self.head(features, given.visible, patches, given.masked)
        return energies.sum(1) / self.num_patches

    def masked(self, corrupted: Tensor, clean: Tensor) -> Tensor:
        """The patches ``(B, L)``, bool, that were masked in images ``(B, C, H, W)``.

        A patch of the mask's own colour is the same before and after. So where fewer patches of an
        image differ than of another, patches of a single colour count as masked, too.
        """
        check_image_size(self.backbone, corrupted)
        changed = (corrupted != clean).any(1, keepdim=True).float()
        changed = max_pool2d(changed, self.patch_size).flatten(1).bool()  # (B, L)
        missing = changed.sum(1, keepdim=True)
        missing = missing.amax() - missing
        if not missing.any():
            return changed
        low, high = (s * max_pool2d(s * corrupted, self.patch_size) for s in (-1, 1))
        single = (low == high).all(1).flatten(1) & ~changed  # (B, L)
        return changed | (single & (single.cumsum(1) <= missing))

    def split(self, images: Tensor, masked: Tensor) -> Masked:
        """Number the visible and the masked patches of images, by a mask ``(B, L)``, bool.

        Raises:
            ValueError: no patch is masked, or every one, or not as many in each image.
        """
        counts = masked.sum(1)
        fewest, most = (int(c) for c in torch.stack(counts.aminmax()))  # waits for the device
        if fewest != most or not 0 < most < self.num_patches:
            raise ValueError(
                f'inpainting needs as many masked patches in each image of a batch, 1 to '
                f'{self.num_patches - 1} of {self.num_patches}; got {fewest} to {most}. Mask whole '
                f'patches: GriddedMask(patch_size={self.patch_size[0]}, ratio=0.75)'
            )
        order = masked.byte().argsort(dim=1, stable=True)
        visible, masked = order.split([self.num_patches - most, most], dim=1)
        return Masked(images, visible, masked)

    def patches(self, images: Tensor, numbers: Tensor) -> Tensor:
        """Pixels ``(B, M, P)`` of the patches of images with these numbers ``(B, M)``."""
        return pixels_of_patches(images, numbers, self.patch_size)

    def start(self, given: Masked) -> Tensor:
        """x⁰: the pixels of the masked patches, zeros for the description; ``(B, M, P + F)``."""
        return pad(self.patches(given.images, given.masked), (0, self.head.extra_values))

    def target(self, clean: Tensor, numbers: Tensor) -> Tensor:
        """What patches ``(B, M)`` are restored to: pixels and description, ``(B, M, P + F)``."""
        patches = self.patches(clean, numbers)
        if self.norm_pix:
            patches = _normalised(patches)
        if self.target_generator is None:
            return patches
        with torch.no_grad():
            described = self.target_generator(clean).take_along_dim(numbers[..., None], dim=1)
        return torch.cat([patches, _normalised(described).to(patches)], dim=-1)

    def loss(self, inputs: Inputs, data_samples: Samples = None) -> dict[str, Tensor]:
        """Equation 5 over masked patches, see :meth:`chain_loss`.

        Args:
            inputs: ``[corrupted, clean]``, each ``(B, C, H, W)``, normalised; they differ in the
                masked patches, as many in each image.
            data_samples: not used.

        Raises:
            TypeError, ValueError: inputs that are no such pair, or see :meth:`split`.
        """
        corrupted, clean = corrupted_and_clean(inputs)
        given = self.split(corrupted, self.masked(corrupted, clean))
        target = self.target(clean, given.masked)
        return self.chain_loss(
            energy=lambda x: self.energy(x, given),
            distance=lambda x: self.restoration_loss(x, target).clone(),
            x=self.start(given),
        )

    def filled_in(self, chain: Tensor, given: Masked, clean: Tensor) -> Tensor:
        """Images ``(N + 1, B, C, H, W)`` with the masked patches of a chain.

        With ``norm_pix`` patches borrow their mean and variance from the clean images; those of x⁰
        do too, so that what is borrowed does not count as restored.
        """
        chain = chain[..., : self.head.pixel_values]
        if self.norm_pix:
            mean, deviation = _moments(self.patches(clean, given.masked))
            chain = chain * deviation + mean
        size, shape = self.patch_size, given.images.shape[-2:]
        patches = unfold(given.images, size, stride=size).mT  # (B, L, P)
        index = given.masked[..., None].expand_as(chain[0])
        filled = [patches.scatter(1, index, x.to(patches)) for x in chain]
        return torch.stack([fold(x.mT, shape, size, stride=size) for x in filled])

    def validation_steps(
        self, inputs: Inputs, data_samples: Samples = None, num_steps: int | None = None
    ) -> dict[str, Tensor]:
        """See :class:`BaseEnergyAlgorithm`."""
        corrupted, clean = corrupted_and_clean(inputs)
        given = self.split(corrupted, self.masked(corrupted, clean))
        # (N + 1, B, M, P + F)
        chain = self.chain(lambda x: self.energy(x, given), self.start(given), num_steps)
        with torch.no_grad():
            target = self.target(clean, given.masked)
            energies = [self.energy(x, given).float() for x in (*chain, target)]
        return dict(
            images=self.to_pixels(self.filled_in(chain, given, clean)),
            energies=torch.stack(energies[:-1]),
            clean=self.to_pixels(clean),
            clean_energies=energies[-1],
        )


def _normalised(patches: Tensor) -> Tensor:
    """Patches ``(B, M, P)``, each with mean 0 and variance 1."""
    mean, deviation = _moments(patches)
    return (patches - mean) / deviation


def _moments(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each patch, ``(B, M, P)`` → two times ``(B, M, 1)``."""
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    return mean, (variance + 1e-6).sqrt()  # MAE's ε
