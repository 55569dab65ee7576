"""What is done to other people's networks: position embeddings, patches, weights."""

from .patch_dropout import PatchSelection, kept_patches
from .plain_convnet import PlainConvNet
from .position_embedding import (
    PositionEmbedding,
    find_position_embedding,
    set_sincos_position_embedding,
    sincos_position_embedding,
)
from .weights import load_backbone
