import numpy as np
import pytest

from mmebm.corruptions import GriddedMask, RandomBlockMask
from mmebm.corruptions.masking import block_mask, grid_mask

SMALL = dict(num_blocks=75, area_range=(0.01, 0.025), aspect_range=(0.5, 2.0))
LARGE = dict(num_blocks=25, area_range=(0.02, 0.05), aspect_range=(0.5, 2.0))


def test_gridded_mask_literal():
    """3 x 4 cells, the last row and column cut off, six of them blank."""
    image = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    corruption = GriddedMask(2, 0.5, fill=(201, 202, 203), to_rgb=True, seed=0)
    corrupted = corruption(dict(img=image, sample_idx=3))['img'][0]
    blank = 203  # blue comes first
    expected = [
        [0, 3, 6, 9, blank, blank, blank],
        [21, 24, 27, 30, blank, blank, blank],
        [blank, blank, 48, 51, 54, 57, blank],
        [blank, blank, 69, 72, 75, 78, blank],
        [blank, blank, blank, blank, 96, 99, 102],
    ]
    np.testing.assert_array_equal(corrupted[..., 0], expected)
    np.testing.assert_array_equal(corrupted[0, 4], [203, 202, 201])
    np.testing.assert_array_equal(corrupted[0, 0], image[0, 0])


@pytest.mark.parametrize('ratio', [0, 0.3, 1])
@pytest.mark.parametrize('size', [(1, 1), (5, 7), (33, 20)])
def test_gridded_mask_chooses_whole_cells(size, ratio):
    mask = grid_mask(*size, 4, ratio, np.random.default_rng(0))
    corners = mask[::4, ::4]
    assert corners.sum() == round(ratio * corners.size)
    rows, columns = (np.arange(side) // 4 for side in size)
    np.testing.assert_array_equal(mask, corners[rows][:, columns])


def test_random_block_mask_literal():
    """Two rectangles that overlap: 2 rows of 4 pixels, and 4 rows of 2 to the bottom."""
    mask = block_mask(5, 7, 2, (0.15, 0.3), (0.5, 2), np.random.default_rng(4))
    expected = [
        [0, 0, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 1, 0, 0],
        [0, 1, 1, 1, 1, 0, 0],
        [0, 0, 1, 1, 0, 0, 0],
        [0, 0, 1, 1, 0, 0, 0],
    ]
    np.testing.assert_array_equal(mask.astype(int), expected)


def test_a_block_is_a_rectangle_of_the_wanted_area():
    for seed in range(100):
        rng = np.random.default_rng(seed)
        height, width = rng.integers(1, 34, 2)
        areas, aspects = np.sort(rng.random(2)), np.sort(10 ** rng.uniform(-2, 2, 2))
        mask = block_mask(height, width, 1, areas, aspects, rng)
        rows, columns = mask.any(1), mask.any(0)
        np.testing.assert_array_equal(mask, rows[:, None] & columns)
        for inside in rows, columns:
            assert (np.diff(np.flatnonzero(inside)) == 1).all()
        h, w = rows.sum(), columns.sum()
        # sides are rounded, by half a pixel at most, and up to one pixel where that is more
        assert min(h, w) == 1 or (h - 0.5) * (w - 0.5) <= areas[1] * height * width
        assert (h + 0.5) * (w + 0.5) >= areas[0] * height * width


@pytest.mark.parametrize(('options', 'share'), [(SMALL, 0.68), (LARGE, 0.54)])
def test_blank_share_of_random_small_and_large(options, share):
    """If the border were hit as often as the middle, it would be 73 and 59 %."""
    rng = np.random.default_rng(0)
    masks = [block_mask(224, 224, *options.values(), rng) for _ in range(300)]
    assert np.mean(masks) == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize('make', [GriddedMask, RandomBlockMask])
def test_fill_is_rgb_whatever_the_image(make, image):
    options = (16, 1) if make is GriddedMask else (1, (1, 1), (1, 1))
    bgr = make(*options, fill=[1, 2, 3])(dict(img=image))['img'][0]
    rgb = make(*options, fill=[1, 2, 3], to_rgb=False)(dict(img=image))['img'][0]
    assert (bgr == [3, 2, 1]).all()
    assert (rgb == [1, 2, 3]).all()
