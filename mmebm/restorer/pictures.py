"""Read and write picture files, keeping size, alpha channel, colour profile and EXIF.

Pillow decodes, because OpenCV drops alpha, colour profile and EXIF. Files are not trusted: formats
that run programs (EPS) are not opened, and pictures above Pillow's pixel limit are refused before
they are decoded.
"""

import io
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from ..datasets import IMAGE_EXTENSIONS
from ..evaluation.restoration_metric import ssim
from ..models.chain import to_uint8
from ..utils.whole_files import WholeFilesBackend

# H × W pixels, BGR as in MMPretrain's LoadImageFromFile and in the corruptions.

FORMATS = ('AVIF', 'BMP', 'DIB', 'GIF', 'JPEG', 'JPEG2000', 'MPO', 'PNG', 'PPM', 'TIFF', 'WEBP')
LUMA = np.array([0.114, 0.587, 0.299], np.float32)  # of BGR, ITU-R BT.601 as in Pillow


class UnreadableImageError(ValueError):
    """A file that cannot be read as an image, or is too large."""


def find_images(path: str | Path) -> list[Path]:
    """List an image file, or all images below a folder, sorted.

    Raises:
        FileNotFoundError: there is no such file or folder, or no image in the folder.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(f'no such image or folder: {path}')
    found = sorted(
        f for f in path.rglob('*') if f.suffix.lower() in IMAGE_EXTENSIONS and f.is_file()
    )
    if not found:
        raise FileNotFoundError(
            f'no image below {path.resolve()} (extensions: {", ".join(IMAGE_EXTENSIONS)})'
        )
    return found


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
        """A copy with other pixels, 8 bits in colour; the profile of a grey picture is dropped."""
        profile = None if self.grey else self.icc_profile
        return replace(self, pixels=pixels, grey=False, depth=8, icc_profile=profile)

    def to_image(self) -> Image.Image:
        """As a Pillow image of its kind (grey, depth, alpha); values are rounded and clipped."""
        if self.depth == 16:
            grey = np.empty(self.pixels.shape[:2], np.uint16)
            for row, pixels in zip(grey, self.pixels, strict=True):
                row[:] = np.clip(np.rint(pixels @ LUMA * 257), 0, 65535)
            return Image.fromarray(grey)
        image = Image.fromarray(np.ascontiguousarray(to_uint8(self.pixels)[..., ::-1]))
        if self.grey:
            image = image.convert('L')
        if self.alpha is not None:
            image.putalpha(Image.fromarray(self.alpha))
        return image


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
                return decode(image)
    except Exception as error:  # every decoder raises errors of its own
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise UnreadableImageError(f'{path} cannot be read as an image: {reason}') from error


def decode(image: Image.Image) -> Picture:
    """A Pillow image as a picture.

    Raises:
        ValueError: see :func:`read_picture`.
    """
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


def save_picture(path: str | Path, picture: Picture) -> None:
    """Write a picture as PNG, which is lossless, with its profile, EXIF and resolution."""
    kept = dict(icc_profile=picture.icc_profile, exif=picture.exif, dpi=picture.dpi)
    kept = {k: v for k, v in kept.items() if v is not None}
    save_whole(path, picture.to_image(), format='PNG', **kept)


def save_whole(path: str | Path, image: Image.Image, **options) -> None:
    """Write an image file atomically: it is complete or absent, even if the process is killed.

    Args:
        path: the file; its folder is created.
        image: to write.
        **options: of Pillow's ``save``, which needs ``format``.
    """
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
