import io

import numpy as np
import pytest
import scipy.ndimage
import skimage.data
from PIL import Image

from mmebm.corruptions import Blur, Fog, JPEGCompression, Shuffle
from mmebm.corruptions.beyond_paper import plasma, remove_band


def corrupt(corruption, image, index=0):
    return corruption(dict(img=image, sample_idx=index))['img'][0]


@pytest.fixture
def photograph():
    """Return a photograph, (150, 225, 3) uint8 RGB."""
    return np.ascontiguousarray(skimage.data.chelsea()[::2, ::2])


@pytest.mark.parametrize('sigma', [0.3, 1.0, 2.5, 12.0])
def test_blur_is_scipys(sigma, image):
    expected = scipy.ndimage.gaussian_filter(
        image.astype(float), (sigma, sigma, 0), mode='reflect', truncate=4
    )
    corrupted = corrupt(Blur((sigma, sigma), seed=0), image)
    assert np.abs(corrupted - expected).max() < 1.5  # rounding, and OpenCV's kernel of 8 bits


@pytest.mark.parametrize('to_rgb', [True, False])
@pytest.mark.parametrize('quality', [5, 40, 95])
def test_jpeg_is_pillows(quality, to_rgb, photograph):
    file = io.BytesIO()
    Image.fromarray(photograph).save(file, format='JPEG', quality=quality)
    expected = np.asarray(Image.open(file), float)
    order = slice(None, None, -1) if to_rgb else slice(None)  # images are BGR, or RGB
    corruption = JPEGCompression((quality, quality), to_rgb=to_rgb, seed=0)
    corrupted = corrupt(corruption, photograph[..., order])[..., order]
    assert np.abs(corrupted - expected).max() <= 3
    assert np.abs(corrupted - photograph.astype(float)).mean() > np.abs(corrupted - expected).mean()


@pytest.mark.parametrize('size', [(45, 67), (32, 32), (33, 64), (1, 9)])
@pytest.mark.parametrize(('low', 'high'), [(0.1, 0.3), (0.0, 0.2), (0.3, 1.0)])
def test_band_is_gone_and_the_rest_is_untouched(size, low, high):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    before, after = (
        np.fft.fft2(pixels.astype(float), axes=(0, 1))
        for pixels in (image, remove_band(image, low, high))
    )
    vertical, horizontal = np.meshgrid(*(np.fft.fftfreq(n) for n in size), indexing='ij')
    frequency = np.sqrt(vertical**2 + horizontal**2)
    band = (frequency > low) & (frequency <= high)
    assert band.any()
    accuracy = 1e-6 * np.abs(before).max()  # of float32
    assert np.abs(after[band]).max() < accuracy
    np.testing.assert_allclose(after[~band], before[~band], atol=accuracy)
    assert not band[0, 0]  # the mean stays


def cells_of(image, side):
    rows, columns = (n // side for n in image.shape[:2])
    return [
        image[y * side : (y + 1) * side, x * side : (x + 1) * side].tobytes()
        for y in range(rows)
        for x in range(columns)
    ]


@pytest.mark.parametrize('ratio', [0, 0.5, 1])
def test_shuffle_is_a_permutation_that_can_be_undone(ratio, image):
    """Every cell is different, so that its place in the result gives the permutation."""
    side = 8  # 5 rows and 8 columns of cells in 45 x 67
    corrupted = corrupt(Shuffle(side, ratio, seed=0), image)
    before, after = cells_of(image, side), cells_of(corrupted, side)
    assert sorted(before) == sorted(after)
    moved = [a != b for a, b in zip(before, after, strict=True)]
    assert sum(moved) == round(ratio * 40)  # exactly: none of the chosen cells keeps its place
    undone = corrupted.copy()
    for place, cell in enumerate(before):
        y, x = divmod(after.index(cell), 8)
        to_y, to_x = divmod(place, 8)
        part = corrupted[y * side : (y + 1) * side, x * side : (x + 1) * side]
        undone[to_y * side : (to_y + 1) * side, to_x * side : (to_x + 1) * side] = part
    np.testing.assert_array_equal(undone, image)
    np.testing.assert_array_equal(corrupted[40:], image[40:])  # what no whole cell covers
    np.testing.assert_array_equal(corrupted[:, 64:], image[:, 64:])


def test_fog_blends_every_channel_by_the_same_smooth_share():
    """A black and a white image show the share: 200 f d, and 255 - (255 - 200) f d."""
    options = dict(density_range=(0.5, 0.5), fill=(200, 100, 0), to_rgb=False, seed=0)
    black = np.zeros((60, 80, 3), np.uint8)
    fog = Fog(**options)
    dark, light = corrupt(fog, black), corrupt(fog, black + 255)
    rng = np.random.default_rng([0, 0])
    rng.uniform()
    share = 0.5 * plasma(60, 80, rng)
    for channel, colour in enumerate((200, 100, 0)):
        np.testing.assert_allclose(dark[..., channel], colour * share, atol=0.51)
        np.testing.assert_allclose(light[..., channel], 255 - (255 - colour) * share, atol=0.51)
    swapped = corrupt(Fog(**{**options, 'to_rgb': True}), black)
    np.testing.assert_array_equal(swapped, dark[..., ::-1])
