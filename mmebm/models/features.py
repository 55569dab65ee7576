"""Features of a backbone, one vector per image."""

from mmpretrain.models import ImageClassifier
from torch import Tensor, nn

from .energy_head import EnergyHead, pool_features


def pooled_features(model: nn.Module, images: Tensor) -> Tensor:
    """The backbone's output, averaged over tokens or positions, ``(B, D)`` float32.

    That is done as in the model's energy head; without one, over all but the class token and other
    extra ones.

    Args:
        model: with a backbone: of our pretraining, MMPretrain's, or a classifier.
        images: ``(B, C, H, W)``, normalised.

    Raises:
        ValueError: features of another shape than ``(B, D)``, ``(B, L, D)`` or ``(B, D, H, W)``.
    """
    if isinstance(model, ImageClassifier):
        features = model.extract_feat(images, stage='backbone')
    else:
        features = model.extract_feat(images)
    head = getattr(model, 'head', None)
    if isinstance(head, EnergyHead):
        return pool_features(features, head.in_channels).float()
    backbone = getattr(model.backbone, 'timm_model', model.backbone)
    extra = getattr(backbone, 'num_extra_tokens', getattr(backbone, 'num_prefix_tokens', 0))
    features = (features[-1] if isinstance(features, tuple | list) else features).float()
    if features.dim() == 3:  # (B, T + L, D)
        return features[:, extra:].mean(1)
    if features.dim() == 4:  # (B, D, H, W)
        return features.mean((2, 3))
    if features.dim() == 2:
        return features
    raise ValueError(f'features must be (B, D), (B, L, D) or (B, D, H, W), got {features.shape}')
