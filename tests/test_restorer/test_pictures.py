"""Pictures are written as they were read, but for what was restored."""

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from mmebm.datasets import read_picture
from mmebm.restorer import overlay, save_picture

EXIF_ORIENTATION, EXIF_MAKER = 0x0112, 0x010F


def noise_image(mode='RGB', size=(45, 37)) -> Image.Image:
    rng = np.random.default_rng(0)
    channels = dict(RGB=3, RGBA=4, L=1, LA=2)[mode]
    pixels = rng.integers(0, 256, (*size[::-1], channels), dtype=np.uint8)
    return Image.fromarray(pixels.squeeze() if channels == 1 else pixels, mode)


def saved_again(path):
    """A picture that is read and written as it is."""
    save_picture(path.with_suffix('.again.png'), read_picture(path))
    return Image.open(path.with_suffix('.again.png'))


def on_white(image):
    white, image = Image.new('RGBA', image.size, 'white'), image.convert('RGBA')
    return np.asarray(Image.alpha_composite(white, image), int)


@pytest.mark.parametrize('mode', ['RGB', 'RGBA', 'L', 'LA'])
def test_modes_are_kept(tmp_path, mode):
    image = noise_image(mode)
    image.save(tmp_path / 'a.png')
    again = saved_again(tmp_path / 'a.png')
    assert again.mode == mode
    opaque = np.asarray(image.convert('RGBA').getchannel('A')) == 255
    np.testing.assert_array_equal(np.asarray(again)[opaque], np.asarray(image)[opaque])
    np.testing.assert_allclose(on_white(again), on_white(image), atol=2)
    if 'A' in mode:
        np.testing.assert_array_equal(again.getchannel('A'), image.getchannel('A'))
    bits = np.random.default_rng(0).integers(0, 2**16, (20, 30), dtype=np.uint16)
    Image.fromarray(bits).save(tmp_path / 'b.png')
    np.testing.assert_array_equal(np.asarray(saved_again(tmp_path / 'b.png')), bits)


@pytest.mark.parametrize('orientation', [3, 6, 7])
def test_photographs_come_out_upright_with_exif_profile_and_resolution(tmp_path, orientation):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION], exif[EXIF_MAKER] = orientation, 'maker'
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    kept = dict(exif=exif, icc_profile=profile, dpi=(300, 300))
    noise_image().save(tmp_path / 'a.jpg', **kept)
    again = saved_again(tmp_path / 'a.jpg')
    upright = ImageOps.exif_transpose(Image.open(tmp_path / 'a.jpg'))
    np.testing.assert_array_equal(np.asarray(again), np.asarray(upright))
    assert again.getexif().get(EXIF_ORIENTATION, 1) == 1
    assert again.getexif()[EXIF_MAKER] == 'maker'
    assert again.info['icc_profile'] == profile
    assert again.info['dpi'] == pytest.approx((300, 300), abs=0.1)


def test_heat_is_bright_where_it_is_high():
    heat = np.zeros((8, 8))
    heat[2, 3] = 1
    shown = overlay(np.full((8, 8, 3), 100, np.uint8), heat, 1.0).astype(int).sum(2)
    assert np.unravel_index(shown.argmax(), shown.shape) == (2, 3)
