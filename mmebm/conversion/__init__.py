"""Convert checkpoints to and from MMPretrain and timm."""

from .files import Conversion, from_timm_file, timm_call, to_mmpretrain_file, to_timm_file
