"""Restore and sort images of any size with a pretrained network."""

from ..models.chain import Chain, draw_chains, to_uint8
from .damage import Damage, mask_of, parse_corruption
from .pictures import overlay, save_picture, save_whole, ssim_of
from .restorer import Restorer
