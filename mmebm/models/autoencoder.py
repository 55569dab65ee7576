"""Auto-encoders, the paper's baselines (section 3.1 and the lower rows of Table 2).

An encoder, which is what gets finetuned, and a light decoder, which is thrown away, as in MAE.
"""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from mmpretrain.models.utils import build_norm_layer
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ..backbones import PatchSelection, PositionEmbedding, find_position_embedding, kept_patches
from ..backbones.patch_dropout import check_patch_dropout
from ..backbones.position_embedding import check_image_size
from .base_algorithm import (
    Inputs,
    PredictingSelfSupervisor,
    Samples,
    corrupted_and_clean,
    with_fields,
)
from .sorting_augmentation import (
    check_edge_widths,
    drawn_widths,
    intact_images,
    mask_patch_edges,
    validation_noise,
)

# B batch, C channels, H × W pixels, L patches of p × p pixels, K of them seen, D channels of a
# token.


@MODELS.register_module()
class RestorationAutoEncoder(PredictingSelfSupervisor):
    """Predict the clean image from the corrupted one: "AE + SR 16×", "AE + denoising" (Table 2).

    Unlike in MAE, the encoder sees every patch, because these corruptions leave no patch out.

    Args:
        backbone: config of the encoder, MMPretrain's ``VisionTransformer`` with
            ``out_type='raw'`` and its class token.
        neck: config of the decoder, MMPretrain's ``MAEPretrainDecoder``.
        head: config of MMPretrain's ``MAEPretrainHead``, which holds the loss, over all pixels.
        data_preprocessor, init_cfg: of MMPretrain's ``BaseSelfSupervisor``.

    Raises:
        ValueError: the backbone or the size of the decoder is another one.
    """

    def __init__(
        self,
        backbone: dict | nn.Module,
        neck: dict | nn.Module,
        head: dict | nn.Module,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | list | None = None,
    ):
        super().__init__(
            backbone, neck, head, data_preprocessor=data_preprocessor, init_cfg=init_cfg
        )
        patches = check_encoder(self.backbone).num_patches
        if self.neck.num_patches != patches:
            raise ValueError(
                f'neck.num_patches={self.neck.num_patches} must be the {patches} of the backbone'
            )

    def predict_patches(self, images: Tensor) -> Tensor:
        """Encode and decode images ``(B, C, H, W)`` → patches ``(B, L, p · p · C)``."""
        tokens = self.backbone(images)[-1]  # (B, 1 + L, D)
        in_place = torch.arange(self.neck.num_patches, device=images.device)
        return self.neck(tokens, in_place.expand(len(images), -1))

    def loss(self, inputs: Inputs, data_samples: Samples = None) -> dict[str, Tensor]:
        """The head's distance of the prediction to the clean image, over all pixels.

        ``inputs`` are ``[corrupted, clean]``, each ``(B, C, H, W)``, normalised.
        """
        corrupted, clean = corrupted_and_clean(inputs)
        return dict(loss=self.head.loss(self.predict_patches(corrupted), clean, mask=None))

    @torch.no_grad()
    def restore(self, images: Tensor) -> Tensor:
        """Predict clean images from corrupted ones, ``(B, C, H, W)`` normalised, as the result is.

        Raises:
            ValueError: the head has ``norm_pix=True``.
        """
        if self.head.norm_pix:  # the predictions lack each patch's mean and contrast
            raise ValueError(
                'a head with norm_pix=True does not predict images: set head.norm_pix=False, or '
                'train without validation (tools/train.py --no-validate)'
            )
        return self.head.unpatchify(self.predict_patches(images)).float()

    def predict(self, inputs: Inputs, data_samples: Samples = None) -> list[DataSample]:
        """Restore a validation batch, inputs as for :meth:`loss`.

        Returns:
            ``data_samples``, or new ones, with ``clean``, ``corrupted`` and ``restored``
            ``(C, H, W)`` in pixel units (0..255; the last two may lie outside).
        """
        corrupted, clean = corrupted_and_clean(inputs)
        images = dict(clean=clean, corrupted=corrupted, restored=self.restore(corrupted))
        pixels = {name: self.to_pixels(x) for name, x in images.items()}
        return with_fields(data_samples, pixels)


@MODELS.register_module()
class SortingAutoEncoder(PredictingSelfSupervisor):
    """Predict the position of each patch: "AE + sorting" (section 3.1, Table 2).

    The encoder has no position embedding while pretraining: its own is zero and fixed, and
    finetuning starts from zeros, as in the paper. While training, edges are masked at random and
    patches dropped (appendix A.2). In validation the encoder sees all patches, with edges masked as
    in training (ours), always the same ones in an image.

    Args:
        backbone: config of the encoder, MMPretrain's ``VisionTransformer`` with
            ``out_type='raw'`` and its class token.
        neck: config of the decoder, :class:`PositionDecoder`.
        edge_widths: k, outermost pixels of a patch that become zero, ≥ 0; drawn for each patch, all
            equally likely. The paper: 1 and 2.
        patch_drop_ratio: the share of patches dropped in each iteration, in [0, 1). The paper: 0.5.
        data_preprocessor, init_cfg: of MMPretrain's ``BaseSelfSupervisor``.

    Raises:
        TypeError, ValueError: a bad option, another backbone, or a decoder of another size.
    """

    def __init__(
        self,
        backbone: dict | nn.Module,
        neck: dict | nn.Module,
        edge_widths: Sequence[int] = (1, 2),
        patch_drop_ratio: float = 0.5,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | list | None = None,
    ):
        super().__init__(backbone, neck, data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        found = check_encoder(self.backbone)
        self.num_patches, self.patch_size = found.num_patches, found.patch_size
        if self.neck.num_positions != self.num_patches:
            raise ValueError(
                f'neck.num_positions={self.neck.num_positions} must be the {self.num_patches} '
                'patches of the backbone'
            )
        self.selection = PatchSelection(self.backbone)
        check_edge_widths(edge_widths, self.patch_size)
        check_patch_dropout(self.backbone, patch_drop_ratio)
        self.patch_drop_ratio = patch_drop_ratio
        self.register_buffer('edge_widths', torch.tensor(list(edge_widths)), persistent=False)
        self._remove_position_embedding()
        # A checkpoint of another method brings one along.
        self.register_load_state_dict_post_hook(
            lambda module, incompatible: module._remove_position_embedding()
        )

    def init_weights(self) -> None:
        super().init_weights()
        self._remove_position_embedding()

    @torch.no_grad()
    def _remove_position_embedding(self) -> None:
        self.backbone.pos_embed.requires_grad_(False).zero_()

    def predict_positions(self, images: Tensor, patches: Tensor) -> Tensor:
        """Encode and decode patches ``(B, K)`` of images; scores of positions ``(B, K, L)``."""
        with self.selection.only(patches):
            tokens = self.backbone(images)[-1]  # (B, 1 + K, D)
        return self.neck(tokens)

    def loss(self, inputs: Inputs, data_samples: Samples = None) -> dict[str, Tensor]:
        """Cross-entropy of the predicted positions, mean over the patches that were kept.

        ``inputs`` are the images ``(B, C, H, W)``, normalised, or a list that holds only them. For
        the log there is ``accuracy``, the share of positions predicted right (chance: 1 / L).
        """
        images = intact_images(inputs)
        noise = torch.rand(len(images), 2, self.num_patches, device=images.device)
        patches = kept_patches(noise[:, 0], self.patch_drop_ratio)  # (B, K)
        scores = self.predict_positions(self._mask_edges(images, noise[:, 1]), patches)
        loss = cross_entropy(scores.flatten(0, 1), patches.flatten())
        accuracy = (scores.detach().argmax(-1) == patches).float().mean()
        return dict(loss=loss, accuracy=accuracy)

    @torch.no_grad()
    def predict(self, inputs: Inputs, data_samples: Samples = None) -> list[DataSample]:
        """Sort the patches of a validation batch, inputs as for :meth:`loss`.

        Returns:
            ``data_samples``, or new ones, with ``restored_positions`` ``(L,)``: of each patch, row
            by row, the predicted position, below L.

        Raises:
            ValueError: a sample has no ``sample_idx``.
        """
        images = intact_images(inputs)
        noise = validation_noise(len(images), self.num_patches, data_samples).to(images.device)
        patches = torch.arange(self.num_patches, device=images.device).expand(len(images), -1)
        scores = self.predict_positions(self._mask_edges(images, noise[:, 1]), patches)
        return with_fields(data_samples, dict(restored_positions=scores.argmax(-1)))

    def _mask_edges(self, images: Tensor, noise: Tensor) -> Tensor:
        check_image_size(self.backbone, images)
        return mask_patch_edges(images, drawn_widths(noise, self.edge_widths), self.patch_size)


@MODELS.register_module()
class PositionDecoder(BaseModule):
    """MAE's decoder with positions as its answer, and so without a position embedding.

    Args:
        num_positions: L.
        embed_dim: D, channels of the encoder.
        decoder_embed_dim, decoder_depth, decoder_num_heads, mlp_ratio, norm_cfg, init_cfg: as of
            MMPretrain's ``MAEPretrainDecoder``.
    """

    def __init__(
        self,
        num_positions: int,
        embed_dim: int,
        decoder_embed_dim: int = 512,
        decoder_depth: int = 8,
        decoder_num_heads: int = 16,
        mlp_ratio: float = 4.0,
        norm_cfg: dict | None = None,
        init_cfg: dict | list | None = None,
    ):
        super().__init__(init_cfg)
        norm_cfg = norm_cfg or dict(type='LN', eps=1e-6)
        hidden = int(mlp_ratio * decoder_embed_dim)
        self.num_positions = num_positions
        self.decoder_embed = nn.Linear(embed_dim, decoder_embed_dim)
        self.decoder_blocks = nn.ModuleList(
            TransformerEncoderLayer(decoder_embed_dim, decoder_num_heads, hidden, norm_cfg=norm_cfg)
            for _ in range(decoder_depth)
        )
        self.decoder_norm = build_norm_layer(norm_cfg, decoder_embed_dim)
        self.decoder_pred = nn.Linear(decoder_embed_dim, num_positions)

    def forward(self, tokens: Tensor) -> Tensor:
        """Class token and K patches, ``(B, 1 + K, D)`` → scores of positions ``(B, K, L)``."""
        x = self.decoder_embed(tokens)
        for block in self.decoder_blocks:
            x = block(x)
        return self.decoder_pred(self.decoder_norm(x))[:, 1:]


def check_encoder(backbone: nn.Module) -> PositionEmbedding:
    """Where a backbone that hands all its tokens to a decoder keeps its position embedding.

    Raises:
        ValueError: it is not a plain vision transformer, has no class token, or returns other
            features.
    """
    found = find_position_embedding(backbone)
    out_type = getattr(backbone, 'out_type', None)
    if out_type != 'raw' or found.num_extra_tokens != 1:
        raise ValueError(
            "the encoder must be MMPretrain's VisionTransformer with out_type='raw' and its class "
            f'token, got {type(backbone).__name__} with out_type={out_type!r} and '
            f'{found.num_extra_tokens} extra tokens'
        )
    return found
