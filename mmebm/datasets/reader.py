"""The one reader of images: what the pixels of a file are.

OpenCV decodes plain JPEG and PNG, Pillow everything else; where both can, they give the same
pixels. Files are not trusted: formats that run programs (EPS) are not opened, and images of more
than twice Pillow's limit of 89 million pixels are refused before they are decoded.
"""

import functools
import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

FORMATS = ('AVIF', 'BMP', 'DIB', 'GIF', 'HEIF', 'JPEG', 'JPEG2000', 'MPO', 'PNG', 'PPM', 'SUN')
FORMATS += ('TIFF', 'WEBP')
# the reasons are in the errors; without this, damaged files fill the terminal with warnings
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

FEW_BITS = '16 bits hold fewer: scaled to the full range'
SEVERAL = 'several pictures in a file: the first is taken'
NO_ALPHA = 'a fourth channel that is no alpha: left out'
NOTES = (FEW_BITS, SEVERAL, NO_ALPHA)


class UnreadableImageError(ValueError):
    """A file that cannot be read as an image."""


@dataclass(frozen=True)
class Picture:
    """A decoded image, upright.

    Attributes:
        pixels: ``(H, W, 3)`` BGR in 0..255, with alpha laid over white, so that nothing invisible
            is seen by a network; uint8, or float32 from a grey file with 16 bits.
        alpha: ``(H, W)`` uint8; None if all is opaque.
        grey: whether the file is greyscale.
        depth: bits per channel: 8, or 16 for a grey picture.
        icc_profile: the colour profile of the pixels, or None.
        exif: without the orientation, which has been applied; or None.
        dpi: print resolution, or None.
        notes: of :data:`NOTES`, what was done to such a file.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    grey: bool = False
    depth: int = 8
    icc_profile: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()


def read_pixels(source: str | Path | bytes) -> tuple[np.ndarray, tuple[str, ...]]:
    """The pixels of an image file as uint8, and the notes; see :class:`Picture`.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableImageError: it is damaged, too large, or no image that can be shown; says why.
    """
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    if _is_plain(data):
        try:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        except cv2.error:  # more pixels than OPENCV_IO_MAX_IMAGE_PIXELS
            pixels = None
        if pixels is None:
            raise UnreadableImageError('damaged, or more than 179 million pixels')
        return pixels, ()
    picture = read_picture(data)
    return np.rint(picture.pixels).astype(np.uint8, copy=False), picture.notes


def read_picture(source: str | Path | bytes) -> Picture:
    """As :func:`read_pixels`, with all that is needed to write the file again."""
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            with Image.open(io.BytesIO(data), formats=_formats()) as image:
                return _decoded(image, data)
    except UnidentifiedImageError as error:
        reason = 'no image of a known format'
        if data[:2] in (b'II', b'MM'):
            reason = 'a TIFF of an unknown layout; 1, 3 or 4 channels of 8 or 16 bits are known'
        raise UnreadableImageError(reason) from error
    except Exception as error:  # every decoder raises errors of its own
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise UnreadableImageError(f'cannot be read as an image: {reason}') from error


@functools.cache
def _formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _is_plain(data: bytes) -> bool:
    """Whether OpenCV gives what Pillow does: JPEG; PNG of 8 bits in one picture without alpha."""
    if data.startswith(b'\xff\xd8\xff'):
        return True
    head = data[: data.find(b'IDAT')]
    return (
        head.startswith(b'\x89PNG')
        and (head[24:26] in (b'\x08\x00', b'\x08\x02'))  # bits; grey or RGB
        and not any(chunk in head for chunk in (b'tRNS', b'acTL', b'eXIf', b'Raw profile'))
    )


def _decoded(image: Image.Image, data: bytes) -> Picture:
    notes = [SEVERAL] if getattr(image, 'is_animated', False) and image.format != 'MPO' else []
    tags = image.tag_v2 if image.format == 'TIFF' else {}
    notes += [NO_ALPHA] if image.mode == 'RGB' and tags.get(277, 3) > 3 else []
    depth = data[24] if image.format == 'PNG' else int(np.max(tags.get(258, 8)))
    if image.mode == 'F' or depth > 16:
        raise ValueError('32 bits per channel; 8 and 16 are supported')
    grey = image.mode in ('1', 'L', 'LA') or image.mode.startswith('I')
    profile = image.info.get('icc_profile')
    if depth > 8:  # Pillow keeps 16 bits of grey only, and OpenCV no transparent value of it
        single = image.mode.startswith('I')
        values = np.asarray(image) if single else cv2.imdecode(np.frombuffer(data, np.uint8), -1)
        values = np.atleast_3d(values)  # (H, W, 1 | 3 | 4)
        alpha = np.rint(values[..., 3] / 257) if values.shape[2] == 4 else None
        if single and 'transparency' in image.info:
            alpha = 255 * (values[..., 0] != image.info['transparency'])
        pixels, few = _scaled(values[..., :3], int(tags.get(281, (0,))[0]))
        notes += [FEW_BITS] if few else []
    else:
        if image.mode not in ('1', 'L', 'LA', 'RGB', 'RGBA', 'P', 'PA'):
            profile = None  # e.g. of CMYK: it does not describe the converted pixels
        transparent = image.has_transparency_data
        values = np.asarray(image.convert('RGBA' if transparent else 'RGB'))
        pixels, alpha = values[..., 2::-1], values[..., 3] if transparent else None
    exif, dpi = image.getexif(), image.info.get('dpi')
    orientation = exif.pop(0x0112, 1)
    if alpha is not None:
        alpha = _upright(alpha.astype(np.uint8), orientation)
        share = np.float32(1 / 255) * alpha[..., None]
        pixels = share * _upright(pixels, orientation) + 255 * (1 - share)
        alpha = None if alpha.min() == 255 else alpha
    else:
        pixels = _upright(pixels, orientation)
    exact = depth > 8 and grey
    if not exact and pixels.dtype != np.uint8:
        pixels = np.rint(pixels).astype(np.uint8)
    pixels = np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
    kept = exif.tobytes() if len(exif) else None
    return Picture(pixels, alpha, grey, 16 if exact else 8, profile, kept, dpi, tuple(notes))


def _scaled(values: np.ndarray, highest: int) -> tuple[np.ndarray, bool]:
    """16-bit values as float32 in 0..255, and whether they use fewer bits, by their maximum.

    Args:
        values: uint16.
        highest: that the file says can occur; 0 if it says nothing.
    """
    highest = highest or int(values.max(initial=0))
    bits = next(bits for bits in (8, 10, 12, 14, 16) if highest < 2**bits)
    return values * np.float32(255 / (2**bits - 1)), bits < 16


def _upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Turn ``(H, W, ...)`` by an EXIF orientation, 1 to 8."""
    if not 1 < orientation <= 8:
        return array
    array = array.swapaxes(0, 1) if orientation > 4 else array
    down, right = ((1, 1), (1, -1), (-1, -1), (-1, 1))[(orientation - 1) % 4]
    return array[::down, ::right]
