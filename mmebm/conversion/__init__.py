"""Convert checkpoints to MMPretrain, timm and transformers."""

from .files import Conversion, timm_call, to_mmpretrain_file, to_timm_file, to_transformers_folder
