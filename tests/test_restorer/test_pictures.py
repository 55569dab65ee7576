"""Pictures are written as they were read, but for what was restored."""

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from mmebm.restorer import Restorer, overlay, read_picture, save_picture
from tests.zero_head import save_network

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
    image = image.convert('RGBA')
    return np.asarray(Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image))


@pytest.mark.parametrize('mode', ['RGB', 'RGBA', 'L', 'LA'])
def test_modes_are_kept(tmp_path, mode):
    image = noise_image(mode)
    image.save(tmp_path / 'a.png')
    again = saved_again(tmp_path / 'a.png')
    assert again.mode == mode
    if mode in ('RGB', 'L'):
        np.testing.assert_array_equal(np.asarray(again), np.asarray(image))
        return
    np.testing.assert_array_equal(again.getchannel('A'), image.getchannel('A'))
    np.testing.assert_allclose(on_white(again).astype(int), on_white(image), atol=2)
    opaque = np.asarray(image.getchannel('A')) == 255
    assert opaque.any()
    np.testing.assert_array_equal(np.asarray(again)[opaque], np.asarray(image)[opaque])


def test_what_alpha_hides_changes_nothing(tmp_path):
    """Two pictures that look alike, one black and one noise where alpha is 0."""
    save_network(tmp_path / 'net.pth', zero=False, step_size=0.1)
    restorer, results = Restorer(tmp_path / 'net.pth', device='cpu'), []
    visible = np.zeros((37, 45), bool)
    visible[:, 20:] = True
    for hidden in (np.zeros((37, 45, 3), np.uint8), np.asarray(noise_image())):
        pixels = np.where(visible[..., None], np.asarray(noise_image().rotate(180)), hidden)
        Image.fromarray(np.dstack([pixels, 255 * visible]).astype('u1')).save(tmp_path / 'a.png')
        results.append(restorer(tmp_path / 'a.png').images[-1])
    np.testing.assert_array_equal(*results)


def test_16_bits_of_grey_are_kept(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 2**16, (20, 30), dtype=np.uint16)
    Image.fromarray(pixels).save(tmp_path / 'a.png')
    again = saved_again(tmp_path / 'a.png')
    assert again.mode == 'I;16'
    np.testing.assert_array_equal(np.asarray(again), pixels)


@pytest.mark.parametrize('orientation', [3, 6, 7])
def test_turned_photographs_come_out_upright_with_their_exif(tmp_path, orientation):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION], exif[EXIF_MAKER] = orientation, 'maker'
    noise_image().save(tmp_path / 'a.jpg', exif=exif)
    again = saved_again(tmp_path / 'a.jpg')
    upright = ImageOps.exif_transpose(Image.open(tmp_path / 'a.jpg'))
    np.testing.assert_array_equal(np.asarray(again), np.asarray(upright))
    assert again.getexif().get(EXIF_ORIENTATION, 1) == 1
    assert again.getexif()[EXIF_MAKER] == 'maker'


def test_colour_profile_and_resolution_are_kept(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    noise_image().save(tmp_path / 'a.jpg', icc_profile=profile, dpi=(300, 300))
    again = saved_again(tmp_path / 'a.jpg')
    assert again.info['icc_profile'] == profile
    assert again.info['dpi'] == pytest.approx((300, 300), abs=0.1)


def test_heat_is_bright_where_it_is_high():
    heat = np.zeros((8, 8))
    heat[2, 3] = 1
    shown = overlay(np.full((8, 8, 3), 100, np.uint8), heat, 1.0).astype(int).sum(2)
    assert np.unravel_index(shown.argmax(), shown.shape) == (2, 3)
