"""The one reader, against Pillow: every format and colour mode that Pillow writes, each way up."""

import io

import cv2
import numpy as np
import pytest
import skimage.data
import tifffile
from PIL import Image, ImageOps

from mmebm.datasets import IMAGE_EXTENSIONS, UnreadableImageError, read_picture, read_pixels
from mmebm.datasets.reader import FEW_BITS, NO_ALPHA, SEVERAL

from .conftest import encoded

PHOTOGRAPH = Image.fromarray(np.ascontiguousarray(skimage.data.chelsea()[60:104:2, 90:150:2]))
MODES = dict(
    JPEG='L RGB CMYK',
    PNG='1 L LA P RGB RGBA I;16',
    TIFF='1 L LA P RGB RGBA CMYK I;16',
    WEBP='RGB RGBA',
    GIF='L P',
    BMP='1 L P RGB',
    JPEG2000='L LA RGB RGBA',
    PPM='1 L RGB',
)
if '.heic' in IMAGE_EXTENSIONS:  # pillow-heif is installed
    MODES['HEIF'] = 'L RGB RGBA'
CASES = [(kind, mode) for kind, modes in MODES.items() for mode in modes.split()]
ROTATED = ('JPEG', 'PNG', 'TIFF', 'WEBP')  # may hold an orientation


def in_mode(mode: str) -> Image.Image:
    """The photograph in a colour mode; with alpha, a ramp from transparent to opaque."""
    if mode == 'I;16':
        return Image.fromarray(np.asarray(PHOTOGRAPH.convert('L')).astype(np.uint16) * 257 + 3)
    image = PHOTOGRAPH.convert(mode)
    if mode.endswith('A'):
        width, height = image.size
        ramp = np.linspace(-40, 300, width).clip(0, 255).astype(np.uint8)
        image.putalpha(Image.fromarray(np.tile(ramp, (height, 1))))
    return image


def as_pillow_shows(data: bytes) -> np.ndarray:
    """Upright RGB on a white page, by Pillow's own functions."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.mode == 'I;16':
        grey = np.asarray(image) / 257
        return np.stack([grey] * 3, axis=2)
    if image.has_transparency_data:
        image = image.convert('RGBA')
        image = Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image)
    return np.asarray(image.convert('RGB'), float)


@pytest.mark.parametrize(('kind', 'mode'), CASES)
def test_pixels_are_those_that_pillow_shows(kind, mode):
    for orientation in range(1, 9) if kind in ROTATED else (1,):
        exif = Image.Exif()
        exif[0x0112] = orientation
        options = dict(exif=exif) if kind in ROTATED else {}
        data = encoded(in_mode(mode), kind, **options)
        expected = as_pillow_shows(data)
        pixels, notes = read_pixels(data)
        picture = read_picture(data)
        assert pixels.dtype == np.uint8
        assert pixels.shape == expected.shape
        assert np.abs(pixels[..., ::-1] - expected).max() <= 1  # of rounding
        assert np.abs(pixels - picture.pixels).max() <= (1 if mode == 'CMYK' else 0.5)
        assert notes == picture.notes == ()
        assert picture.grey == (mode in ('1', 'L', 'LA', 'I;16') and kind != 'GIF')
        assert picture.depth == (16 if mode == 'I;16' else 8)
        assert (picture.alpha is not None) == mode.endswith('A')
        if picture.alpha is not None:
            assert picture.alpha.shape == expected.shape[:2]
        if mode == 'I;16':
            assert np.abs(picture.pixels - expected).max() < 1e-3


@pytest.mark.parametrize('kind', ['PNG', 'WEBP', 'TIFF'])
def test_what_is_under_alpha_is_not_seen(kind):
    image = in_mode('RGBA')
    noise = np.random.default_rng(0).integers(0, 256, (*image.size[::-1], 4), dtype=np.uint8)
    noise[..., 3] = np.asarray(image)[..., 3]
    hidden = noise[..., 3] == 0
    noise[~hidden] = np.asarray(image)[~hidden]
    assert hidden.any()
    options = dict(exact=True) if kind == 'WEBP' else {}
    files = [encoded(i, kind, **options) for i in (image, Image.fromarray(noise))]
    for read in (lambda file: read_pixels(file)[0], lambda file: read_picture(file).pixels):
        first, second = map(read, files)
        assert np.array_equal(first, second)
        assert (first[hidden] == 255).all()


@pytest.mark.parametrize('kind', ['PNG', 'TIFF'])
@pytest.mark.parametrize('colour', [False, True])
@pytest.mark.parametrize('bits', [8, 10, 12, 14, 16])
def test_16_bits_that_hold_fewer_are_scaled(kind, colour, bits):
    image = np.array(PHOTOGRAPH if colour else PHOTOGRAPH.convert('L'))
    image[:2] = 255  # something is white
    deep = np.rint(image.astype(float) * (2**bits - 1) / 255).astype(np.uint16)
    ending = '.png' if kind == 'PNG' else '.tif'
    data = cv2.imencode(ending, deep[..., ::-1] if colour else deep)[1].tobytes()
    pixels, notes = read_pixels(data)
    assert np.abs(pixels[..., ::-1].astype(float) - np.atleast_3d(image)).max() <= 1
    assert notes == ((FEW_BITS,) if bits < 16 else ())


def test_alpha_of_16_bits():
    deep = np.asarray(PHOTOGRAPH)[..., ::-1].astype(np.uint16) * 257
    alpha = np.zeros((*deep.shape[:2], 1), np.uint16)
    alpha[:, 10:] = 65535
    data = cv2.imencode('.png', np.concatenate([deep, alpha], 2))[1].tobytes()
    picture = read_picture(data)
    assert (picture.pixels[:, :10] == 255).all()
    assert np.abs(picture.pixels[:, 10:] - deep[:, 10:] / 257).max() <= 1
    assert np.array_equal(picture.alpha == 255, alpha[..., 0] > 0)


@pytest.mark.parametrize(
    ('kind', 'mode'), [('GIF', 'P'), ('PNG', 'RGB'), ('WEBP', 'RGB'), ('TIFF', 'L')]
)
def test_of_several_pictures_the_first_is_taken(kind, mode):
    first, second = in_mode(mode), ImageOps.mirror(in_mode(mode))
    data = encoded(first, kind, save_all=True, append_images=[second])
    pixels, notes = read_pixels(data)
    assert notes == (SEVERAL,)
    assert np.array_equal(pixels[..., ::-1], np.asarray(first.convert('RGB')))


def tiff(array, **options) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, **options)
    return stream.getvalue()


def test_a_fourth_channel_that_is_no_alpha_is_left_out():
    rgb = np.asarray(PHOTOGRAPH)
    four = np.concatenate([rgb, rgb[..., :1] // 2], 2)
    pixels, notes = read_pixels(tiff(four, photometric='rgb', extrasamples=['unspecified']))
    assert notes == (NO_ALPHA,)
    assert np.array_equal(pixels[..., ::-1], rgb)


UNREADABLE = {
    'TIFF of an unknown layout': tiff(np.zeros((8, 8, 5), np.uint8), planarconfig='contig'),
    '32 bits': tiff(np.zeros((8, 8), np.float32)),
    'unknown layout; 1, 3': tiff(np.zeros((8, 8, 3), np.float32), photometric='rgb'),
    'no image of a known format': b'<html>404 not found</html>',
    'of a known format': b'',
    'damaged': encoded(PHOTOGRAPH, 'JPEG')[:-20],
    'truncated': encoded(in_mode('RGBA'), 'PNG')[:300],
    'damaged, or': encoded(PHOTOGRAPH, 'PNG')[:300],
    'read': encoded(PHOTOGRAPH, 'TIFF')[:900],
    'of a known': b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n',
}


@pytest.mark.parametrize('reason', UNREADABLE)
def test_unreadable_files_say_why_in_one_line(reason, capfd):
    with pytest.raises(UnreadableImageError, match=reason) as error:
        read_pixels(UNREADABLE[reason])
    assert '\n' not in str(error.value)
    out, err = capfd.readouterr()
    assert out + err == ''


def test_a_file_is_refused_before_it_fills_the_memory():
    """A PNG of some kB that says that it has 20,000 × 20,000 pixels."""
    big = encoded(Image.new('1', (20_000, 20_000)), 'PNG')
    assert len(big) < 100_000
    with pytest.raises(UnreadableImageError, match='exceeds limit'):
        read_pixels(big)
