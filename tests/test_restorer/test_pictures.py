"""Picture files keep what they hold, and files that are no pictures are refused."""

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from mmebm.restorer import UnreadableImageError, overlay, read_picture, save_picture

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


@pytest.mark.parametrize('mode', ['RGB', 'RGBA', 'L', 'LA'])
def test_modes_are_kept(tmp_path, mode):
    image = noise_image(mode)
    image.save(tmp_path / 'a.png')
    again = saved_again(tmp_path / 'a.png')
    assert again.mode == mode
    np.testing.assert_array_equal(np.asarray(again), np.asarray(image))


def test_16_bits_of_grey_are_kept(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 2**16, (20, 30), dtype=np.uint16)
    Image.fromarray(pixels).save(tmp_path / 'a.png')
    again = saved_again(tmp_path / 'a.png')
    assert again.mode == 'I;16'
    np.testing.assert_array_equal(np.asarray(again), pixels)


@pytest.mark.parametrize('transparent', [False, True])
def test_the_colours_of_a_palette_are_kept(tmp_path, transparent):
    options = dict(transparency=3) if transparent else {}
    noise_image().quantize(16).save(tmp_path / 'a.png', **options)
    again = saved_again(tmp_path / 'a.png')
    assert again.mode == ('RGBA' if transparent else 'RGB')
    expected = np.asarray(Image.open(tmp_path / 'a.png').convert(again.mode))
    np.testing.assert_array_equal(np.asarray(again), expected)


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
    noise_image().convert('CMYK').save(tmp_path / 'b.jpg', icc_profile=b'of cmyk')
    assert read_picture(tmp_path / 'b.jpg').icc_profile is None


def test_files_that_are_not_a_single_picture_are_refused(tmp_path):
    noise_image(size=(200, 200)).save(tmp_path / 'cut.png')
    (tmp_path / 'cut.png').write_bytes((tmp_path / 'cut.png').read_bytes()[:2000])
    (tmp_path / 'text.jpg').write_bytes(b'no picture')
    # a few bytes whose header promises 40000 × 40000 pixels
    (tmp_path / 'bomb.ppm').write_bytes(b'P6 40000 40000 255\n' + bytes(100))
    frames = [noise_image('L'), noise_image('L').rotate(180)]
    frames[0].save(tmp_path / 'moving.gif', save_all=True, append_images=frames[1:])
    (tmp_path / 'program.png').write_bytes(b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n')
    for name, message in (
        ('cut.png', 'cannot be read'),
        ('text.jpg', 'cannot be read'),
        ('bomb.ppm', 'exceeds limit'),
        ('moving.gif', '2 pictures'),
        ('program.png', 'cannot be read'),
    ):
        with pytest.raises(UnreadableImageError, match=message):
            read_picture(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_picture(tmp_path / 'none.png')


def test_heat_is_bright_where_it_is_high():
    heat = np.zeros((8, 8))
    heat[2, 3] = 1
    shown = overlay(np.full((8, 8, 3), 100, np.uint8), heat, 1.0).astype(int).sum(2)
    assert np.unravel_index(shown.argmax(), shown.shape) == (2, 3)
