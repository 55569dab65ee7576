"""What is done to other people's networks: norms, position embeddings, patches, weights."""

from .group_norm import GroupNormBackbone, warn_of_batch_norm
from .hidden_patches import (
    changed_patches,
    check_hidden_patches,
    hidden_patches,
    patches_to_pixels,
)
from .patch_dropout import PatchDropout, PatchSelection, kept_patches
from .position_embedding import (
    PositionEmbedding,
    find_position_embedding,
    set_sincos_position_embedding,
    sincos_position_embedding,
)
from .weights import load_backbone

__all__ = [
    'GroupNormBackbone',
    'PatchDropout',
    'PatchSelection',
    'PositionEmbedding',
    'changed_patches',
    'check_hidden_patches',
    'find_position_embedding',
    'hidden_patches',
    'kept_patches',
    'load_backbone',
    'patches_to_pixels',
    'set_sincos_position_embedding',
    'sincos_position_embedding',
    'warn_of_batch_norm',
]
