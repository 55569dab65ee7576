"""Write picture files, keeping size, alpha channel, colour profile and EXIF."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..datasets import Picture, UnreadableImageError
from ..evaluation.restoration_metric import ssim
from ..models.chain import to_uint8
from ..utils.whole_files import WholeFilesBackend

LUMA = np.array([0.114, 0.587, 0.299], np.float32)  # of BGR, ITU-R BT.601 as in Pillow


def check_pixels(height: int, width: int) -> None:
    """Raise UnreadableImageError where a picture's size exceeds Pillow's limit."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and height * width > limit:
        raise UnreadableImageError(
            f'{width} × {height} pixels are more than the limit of {limit} pixels'
        )


def in_colour(picture: Picture, pixels: np.ndarray) -> Picture:
    """A picture with other pixels, 8 bits in colour; the profile of a grey one is dropped."""
    profile = None if picture.grey else picture.icc_profile
    return replace(picture, pixels=pixels, grey=False, depth=8, icc_profile=profile)


def to_image(picture: Picture) -> Image.Image:
    """As a Pillow image of its kind (grey, depth, alpha); values are rounded and clipped."""
    pixels = picture.pixels
    if picture.depth == 16:
        grey = np.empty(pixels.shape[:2], np.uint16)
        for row, values in zip(grey, pixels, strict=True):
            row[:] = np.clip(np.rint(values @ LUMA * 257), 0, 65535)
        return Image.fromarray(grey)
    if picture.alpha is not None:  # the pixels are α·colour + (1 − α)·white
        share = picture.alpha[..., None].astype(np.float32) / 255
        pixels = (pixels - 255 * (1 - share)) / np.maximum(share, 1 / 255)
    image = Image.fromarray(np.ascontiguousarray(to_uint8(pixels)[..., ::-1]))
    if picture.grey:
        image = image.convert('L')
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(picture.alpha))
    return image


def save_picture(path: str | Path, picture: Picture) -> None:
    """Write a picture as PNG, which is lossless, with its profile, EXIF and resolution."""
    kept = dict(icc_profile=picture.icc_profile, exif=picture.exif, dpi=picture.dpi)
    kept = {k: v for k, v in kept.items() if v is not None}
    save_whole(path, to_image(picture), format='PNG', **kept)


def save_whole(path: str | Path, image: Image.Image, **options) -> None:
    """Write an image file, with options of Pillow's ``save``: it is complete or absent."""
    data = io.BytesIO()
    image.save(data, **options)
    WholeFilesBackend().put(data.getvalue(), path)


def overlay(image: np.ndarray, heat: np.ndarray, highest: float) -> np.ndarray:
    """A heat map over the grey image: ``(H, W, 3)`` uint8 RGB.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        heat: ``(h, w)``, ≥ 0; resized to the image's size.
        highest: the heat shown brightest, > 0.
    """
    import matplotlib  # slow to import

    height, width = image.shape[:2]
    share = np.clip(heat / highest, 0, 1).astype(np.float32)
    share = np.asarray(Image.fromarray(share).resize((width, height), Image.Resampling.BILINEAR))
    grey = np.asarray(Image.fromarray(image).convert('L').convert('RGB'), np.float32)
    colours = matplotlib.colormaps['inferno'](share)[..., :3] * 255
    strength = 0.25 + 0.6 * share[..., None]
    return np.rint((1 - strength) * grey + strength * colours).astype(np.uint8)


def ssim_of(image: np.ndarray, clean: np.ndarray) -> float:
    """SSIM of an image against the original, ``(H, W, 3)`` in pixel units."""
    tensors = (torch.from_numpy(np.ascontiguousarray(x, np.float32)) for x in (image, clean))
    return ssim(*(x.movedim(2, 0) for x in tensors))
