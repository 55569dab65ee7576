"""Read and write picture files, keeping size, alpha channel, colour profile and EXIF.

Pillow decodes, because OpenCV drops alpha, colour profile and EXIF. Files are not trusted: formats
that run programs (EPS) are not opened, and pictures above Pillow's pixel limit are refused before
they are decoded.
"""

import os
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from .restoration import UnreadableImageError

# H × W pixels, BGR as in MMPretrain's LoadImageFromFile and in the corruptions.

FORMATS = ('AVIF', 'BMP', 'DIB', 'GIF', 'JPEG', 'JPEG2000', 'MPO', 'PNG', 'PPM', 'TIFF', 'WEBP')
LUMA = np.array([0.114, 0.587, 0.299], np.float32)  # of BGR, ITU-R BT.601 as in Pillow
ROWS = 256  # converted at a time, so that a large picture needs no float copy


@dataclass(frozen=True)
class Picture:
    """A decoded picture, upright.

    Attributes:
        pixels: ``(H, W, 3)`` BGR in 0..255; uint8, or float32 from a file with 16 bits per channel.
        alpha: ``(H, W)`` uint8, or None.
        grey: whether the file is greyscale.
        depth: bits per channel: 8, or 16 for a grey picture.
        icc_profile: the colour profile of the pixels, or None.
        exif: without the orientation, which has been applied; or None.
        dpi: print resolution, or None.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    grey: bool = False
    depth: int = 8
    icc_profile: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None

    def in_colour(self, pixels: np.ndarray) -> 'Picture':
        """A copy with other pixels, uint8 in colour; the profile of a grey picture is dropped."""
        profile = None if self.grey else self.icc_profile
        return replace(self, pixels=pixels, grey=False, depth=8, icc_profile=profile)


def read_picture(path: str | Path) -> Picture:
    """Decode a picture file.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableImageError: it is damaged, not a picture, animated, has 32 bits per channel (which
            would lose precision), or exceeds Pillow's limit of 89 million pixels.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'no such image: {path}')
    Image.init()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            warnings.simplefilter('error', Image.DecompressionBombWarning)
            with Image.open(path, formats=[f for f in FORMATS if f in Image.OPEN]) as image:
                return _decode(image)
    except Exception as error:  # every decoder raises errors of its own
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise UnreadableImageError(f'cannot be read as an image: {reason}') from error


def check_pixels(height: int, width: int) -> None:
    """Refuse a picture size above the limit of :func:`read_picture`.

    Raises:
        UnreadableImageError: height × width exceeds the limit.
    """
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and height * width > limit:
        raise UnreadableImageError(
            f'{width} × {height} pixels are more than the limit of {limit} pixels'
        )


def _decode(image: Image.Image) -> Picture:
    if getattr(image, 'is_animated', False) and image.format != 'MPO':
        raise ValueError(f'it holds {image.n_frames} pictures; only single ones are supported')
    if image.mode in ('I', 'F'):
        raise ValueError('it has 32 bits per channel; 8 are supported, and 16 in greyscale')
    profile, dpi = image.info.get('icc_profile'), image.info.get('dpi')
    image = ImageOps.exif_transpose(image)
    exif = image.getexif().tobytes() if len(image.getexif()) else None
    if image.mode.startswith('I;16'):
        if image.has_transparency_data:
            raise ValueError('it is 16-bit greyscale with a transparent value: not supported')
        grey = np.asarray(image).astype(np.float32) / 257
        pixels = np.repeat(grey[..., None], 3, axis=2)
        return Picture(pixels, None, True, 16, profile, exif, dpi)
    if image.mode not in ('1', 'L', 'LA', 'RGB', 'RGBA', 'P', 'PA'):
        profile = None  # e.g. of CMYK: it does not describe the converted pixels
    grey = image.mode in ('1', 'L', 'LA')
    alpha = None
    if image.has_transparency_data:
        image = image.convert('RGBA')
        alpha = np.asarray(image.getchannel('A'))
    rgb = np.asarray(image.convert('RGB'))
    return Picture(np.ascontiguousarray(rgb[..., ::-1]), alpha, grey, 8, profile, exif, dpi)


def to_bytes(pixels: np.ndarray, difference: np.ndarray | float = 0.0) -> np.ndarray:
    """``pixels + difference``, rounded and clipped: ``(H, W, 3)`` uint8 in the same order.

    uint8 pixels are unchanged where the difference is zero.
    """
    result = np.empty(pixels.shape, np.uint8)
    for rows, part, change in _bands(pixels, difference):
        result[rows] = np.clip(np.rint(part + change), 0, 255)
    return result


def to_image(picture: Picture, difference: np.ndarray | float = 0.0) -> Image.Image:
    """A picture with changed pixels as a Pillow image of the same kind: grey, depth, alpha.

    Args:
        picture: the original.
        difference: added to its pixels, ``(H, W, 3)`` BGR in pixel units.
    """
    pixels = picture.pixels
    if picture.depth == 16:
        grey = np.empty(pixels.shape[:2], np.uint16)
        for rows, part, change in _bands(pixels, difference):
            grey[rows] = np.clip(np.rint((part + change) @ LUMA * 257), 0, 65535)
        return Image.fromarray(grey)
    image = Image.fromarray(np.ascontiguousarray(to_bytes(pixels, difference)[..., ::-1]))
    if picture.grey:
        image = image.convert('L')
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(picture.alpha))
    return image


def _bands(pixels: np.ndarray, difference: np.ndarray | float):
    for first in range(0, len(pixels), ROWS):
        rows = slice(first, first + ROWS)
        change = difference if np.isscalar(difference) else difference[rows]
        yield rows, pixels[rows].astype(np.float32, copy=False), change


def save_picture(path: str | Path, picture: Picture, difference: np.ndarray | float = 0.0) -> None:
    """Write a picture as PNG, which is lossless; see :func:`to_image` for the arguments."""
    kept = dict(icc_profile=picture.icc_profile, exif=picture.exif, dpi=picture.dpi)
    image = to_image(picture, difference)
    save_whole(path, image, format='PNG', **{k: v for k, v in kept.items() if v is not None})


def save_whole(path: str | Path, image: Image.Image, **options) -> None:
    """Write an image file atomically: it is complete or absent, even if the process is killed.

    Args:
        path: the file; its folder is created.
        image: to write.
        **options: of Pillow's ``save``, which needs ``format``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f'.{path.name}.unfinished')
    image.save(unfinished, **options)
    os.replace(unfinished, path)
