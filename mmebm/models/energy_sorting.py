"""Pretraining by patch sorting (section 2.4 and appendix A.2 of the paper)."""

from collections.abc import Sequence
from typing import Any

import torch
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from ..backbones import PatchSelection, kept_patches
from ..backbones.patch_dropout import check_patch_dropout
from ..backbones.position_embedding import (
    check_image_size,
    find_position_embedding,
    forward_with_positions,
    set_sincos_position_embedding,
)
from .base_algorithm import BaseEnergyAlgorithm, Inputs, Samples, with_fields
from .sorting_augmentation import (
    check_edge_widths,
    drawn_widths,
    intact_images,
    mask_patch_edges,
    validation_noise,
)
from .sorting_pictures import assign_positions, place_patches

# B batch, C channels, H × W pixels, L patches of ph × pw pixels in a (gh, gw) grid, K of them kept,
# D channels of an embedding, N descent steps.


@MODELS.register_module()
class EnergySortingAlgorithm(BaseEnergyAlgorithm):
    """Fit ``E(x, PE) = h(ψ(x, PE))`` so that descending on it sorts shuffled patches.

    The position embeddings of the patches are shuffled for each image, and the descent moves them;
    the image does not change. They are the 2-D sin-cos embedding of MoCo v3, fixed in pretraining:
    it overwrites the backbone's own, also after initialisation and loading. Extra tokens (class
    token) have a zero embedding, which is never moved.

    Matching edges of neighbouring patches would give the order away. So the outermost pixels of
    each patch are blanked, and in training a share of the patches is dropped before the transformer
    layers. Both are drawn for each image and iteration, and shared by the steps of a descent.

    Args:
        backbone: config of ψ, or a module: a vision transformer with an absolute position
            embedding, such as ``VisionTransformer``, or timm's through ``TIMMBackbone``.
        head, step_size, **options: of :class:`BaseEnergyAlgorithm`, with ``num_steps`` ≥ 1.
        patch_drop_ratio: the share of patches dropped in training, in [0, 1).
        edge_widths: widths k in pixels; each patch draws one of them, and its k outermost pixels
            on each side become zero. Zero after normalisation: for a linear patch embedding this
            equals masking its weights there (section 2.4). 0 masks nothing. Each k must leave
            pixels in a patch: ``2k < min(ph, pw)``.

    Raises:
        TypeError, ValueError: an option of the wrong type or out of range, or a backbone without
            an absolute position embedding.
    """

    def __init__(
        self,
        backbone: dict | nn.Module,
        head: dict | nn.Module,
        step_size: float = 300.0,
        edge_widths: Sequence[int] = (1, 2),
        patch_drop_ratio: float = 0.5,
        **options: Any,
    ):
        super().__init__(backbone=backbone, head=head, step_size=step_size, **options)
        if self.num_steps == 0:
            raise ValueError('num_steps must be an integer ≥ 1 for sorting, got 0')
        found = find_position_embedding(self.backbone)
        check_edge_widths(edge_widths, found.patch_size)
        check_patch_dropout(self.backbone, patch_drop_ratio)
        self.patch_drop_ratio = patch_drop_ratio
        self.selection = PatchSelection(self.backbone)
        self.grid, self.patch_size = found.grid, found.patch_size
        self.num_patches = found.num_patches
        self.register_buffer('edge_widths', torch.tensor(list(edge_widths)), persistent=False)
        # Already here, because DistributedDataParallel counts the trained parameters when it wraps.
        found.value.requires_grad_(False)
        _fix_position_embedding(self)
        self.register_load_state_dict_post_hook(_fix_position_embedding)

    def init_weights(self) -> None:
        """Initialise as MMEngine does; the position embedding stays sin-cos."""
        super().init_weights()
        _fix_position_embedding(self)

    @property
    def true_embedding(self) -> Tensor:
        """The embedding of each patch at its own position, ``(L, D)``."""
        return find_position_embedding(self.backbone).value[0, -self.num_patches :].detach()

    def energy(self, images: Tensor, embedding: Tensor) -> Tensor:
        """``E(x, PE)``: low where each patch has the embedding of its own position.

        Images ``(B, C, H, W)``, normalised, and embeddings of the patches ``(B, L, D)`` → ``(B,)``.
        """
        return self.energy_of_features(forward_with_positions(self.backbone, images, embedding))

    def sort(self, images: Tensor, embedding: Tensor, num_steps: int | None = None) -> Tensor:
        """The chain ``(N + 1, B, L, D)`` of a descent from ``P̃E⁰``; see :meth:`chain`.

        Images are normalised, with masked edges, ``(B, C, H, W)``.
        """
        return self.chain(lambda e: self.energy(images, e), embedding, num_steps)

    def loss(self, inputs: Inputs, data_samples: Samples = None) -> dict[str, Tensor]:
        """Equation 7: the mean over the steps of the squared distance of ``P̃Eⁿ`` to ``PE``.

        Only the kept patches count, because the embeddings of the dropped ones cannot move. See
        :meth:`chain_loss`.

        Args:
            inputs: the images ``(B, C, H, W)``, normalised, or a list that holds only them.
            data_samples: not used.
        """
        images = intact_images(inputs)
        noise = torch.rand(len(images), 3, self.num_patches, device=images.device)
        images, order = self.disorder(images, noise)
        kept = kept_patches(noise[:, 2], self.patch_drop_ratio)  # (B, K)
        true = self.true_embedding.expand(len(images), -1, -1)  # (B, L, D)

        def energy(embedding: Tensor) -> Tensor:
            return self.energy(images, embedding)

        def distance(embedding: Tensor) -> Tensor:
            return mse_loss(*(e.take_along_dim(kept[..., None], 1) for e in (embedding, true)))

        shuffled, seen_share = self.true_embedding[order], kept.shape[1] / self.num_patches
        with self.selection.only(kept):
            return self.chain_loss(energy, distance, shuffled, seen_share)

    def predict(self, inputs: Inputs, data_samples: Samples = None) -> list[DataSample]:
        """Sort a validation batch: all patches, edges masked, each image always in the same order.

        Args:
            inputs: as for :meth:`loss`.
            data_samples: B samples to add to, with ``sample_idx``; by default new ones, numbered
                within the batch.

        Returns:
            The samples, with ``shuffled_positions`` and ``restored_positions`` ``(L,)`` (see
            :func:`nearest_positions`), and ``energy_clean`` (true embeddings) and
            ``energy_corrupted`` (shuffled), 0-dim.

        Raises:
            ValueError: a sample has no ``sample_idx``.
        """
        images = intact_images(inputs)
        images, order = self._validation_disorder(images, data_samples)
        true, shuffled = self.true_embedding.expand(len(images), -1, -1), self.true_embedding[order]
        restored = self.sort(images, shuffled)[-1]
        with torch.no_grad():
            fields = dict(
                shuffled_positions=order,
                restored_positions=nearest_positions(restored, self.true_embedding),
                energy_clean=self.energy(images, true).float(),
                energy_corrupted=self.energy(images, shuffled).float(),
            )
        return with_fields(data_samples, fields)

    def validation_steps(
        self, inputs: Inputs, data_samples: Samples = None, num_steps: int | None = None
    ) -> dict[str, Tensor]:
        """See :class:`BaseEnergyAlgorithm`.

        The pictures show whole patches; the network saw them with masked edges. Each position gets
        one patch (:func:`assign_positions`), while the accuracy counts the patches whose embedding
        is nearest to their own position, as :class:`mmebm.SortingMetric` does.
        """
        images, true = intact_images(inputs), self.true_embedding
        masked, order = self._validation_disorder(images, data_samples)
        chain = self.sort(masked, true[order], num_steps)  # (N + 1, B, L, D)
        right = nearest_positions(chain, true) == torch.arange(len(true), device=true.device)
        clean = self.to_pixels(images)
        pictures = [place_patches(clean, assign_positions(e, true), self.grid) for e in chain]
        with torch.no_grad():
            return dict(
                images=torch.stack(pictures),
                energies=torch.stack([self.energy(masked, e).float() for e in chain]),
                clean=clean,
                clean_energies=self.energy(masked, true.expand_as(chain[0])).float(),
                accuracy=right.double().mean(-1),
            )

    def disorder(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Mask the edges of the patches, and draw which position embedding each patch gets.

        Args:
            images: ``(B, C, H, W)``.
            noise: ``(B, 2 or more, L)``, independent and uniform in [0, 1): for the order, and for
                the edge widths.

        Returns:
            The masked images, and the position whose embedding each patch gets ``(B, L)``.
        """
        check_image_size(self.backbone, images)
        widths = drawn_widths(noise[:, 1], self.edge_widths)  # (B, L)
        return mask_patch_edges(images, widths, self.patch_size), random_orders(noise[:, 0])

    def _validation_disorder(
        self, images: Tensor, data_samples: Sequence[DataSample] | None
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`disorder`, always the same for an image."""
        noise = validation_noise(len(images), self.num_patches, data_samples)
        return self.disorder(images, noise.to(images.device))


def random_orders(noise: Tensor) -> Tensor:
    """Permutations of 0..L−1 from independent uniform noise, both ``(B, L)``."""
    return noise.argsort(dim=1)


def nearest_positions(embedding: Tensor, true_embedding: Tensor) -> Tensor:
    """The position, ``(..., L)``, whose embedding ``(L, D)`` is nearest to each of ``(..., L, D)``.

    It is −1 for an embedding that is NaN or infinite.
    """
    embedding, true_embedding = embedding.float(), true_embedding.float()
    # Not matrix products, which round distances of near positions to ties.
    distance = torch.cdist(
        embedding, true_embedding, compute_mode='donot_use_mm_for_euclid_dist'
    )  # (..., L, L)
    return distance.argmin(-1).masked_fill(~embedding.isfinite().all(-1), -1)


def _fix_position_embedding(algorithm: EnergySortingAlgorithm, *_) -> None:
    # also called with the keys that load_state_dict missed
    set_sincos_position_embedding(algorithm.backbone)
