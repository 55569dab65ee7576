"""What is done to other people's networks: norms, position embeddings, patches, weights."""

from .group_norm import FixedBatchNormBackbone, GroupNormBackbone, warn_of_batch_norm
from .patch_dropout import PatchSelection, kept_patches
from .plain_convnet import PlainConvNet
from .position_embedding import (
    PositionEmbedding,
    find_position_embedding,
    set_sincos_position_embedding,
    sincos_position_embedding,
)
from .weights import load_backbone
