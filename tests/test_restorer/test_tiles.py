"""Tiles against sums over whole arrays."""

import numpy as np
import pytest

from mmebm.restorer.tiles import Tiling, add_change, blend_weights, padded_length, tile_starts


@pytest.mark.parametrize('tile', [1, 2, 7, 16, 48])
@pytest.mark.parametrize('align', [1, 3])
def test_tiles_cover_every_length_and_their_weights_sum_to_one(tile, align):
    for overlap in {0, tile // 4, tile // 2, tile - 1}:
        if max((tile - overlap) // align, 1) * align > tile:
            continue
        for wanted in [*range(1, 3 * tile + 2), 200]:
            length = padded_length(wanted, tile, align)
            starts = tile_starts(length, tile, overlap, align)
            assert wanted <= length < max(wanted, tile) + align
            assert all(start % align == 0 for start in starts)
            gaps = np.diff(starts)
            assert (gaps > 0).all()
            assert (gaps <= max(tile - overlap, align)).all()
            total = np.zeros(length)
            for start, weights in zip(starts, blend_weights(starts, tile), strict=True):
                assert weights.min() >= 0
                total[start : start + tile] += weights
            np.testing.assert_allclose(total, 1, atol=1e-6)


def test_weights_change_smoothly():
    weights = blend_weights(tile_starts(100, 32, 16), 32)
    assert np.abs(np.diff(weights, axis=1)).max() < 0.15


@pytest.mark.parametrize('size', [(5, 3), (16, 16), (17, 40), (50, 33)])
def test_a_change_of_each_pixel_alone_is_the_same_in_tiles_and_whole(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    tiling, counts = Tiling(*size, (16, 16), (4, 4), 2), []
    padded = tiling.pad(image)
    difference = np.zeros(padded.shape, np.float32)
    add_change(padded, difference, lambda x: counts.append(len(x)) or np.sin(x), tiling, 3)
    found = tiling.crop(difference)
    np.testing.assert_allclose(found, np.sin(image.astype(np.float32)), atol=1e-6)
    assert max(counts) <= 3
    assert sum(counts) == len(tiling)


def test_add_change_is_the_weighted_sum_of_the_tiles():
    """Every tile must see the difference from before the call."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (50, 41, 3), dtype=np.uint8)
    tiling = Tiling(50, 41, (16, 12), (7, 5))
    before = rng.normal(size=(*tiling.padded, 3)).astype(np.float32)

    def change(x):  # depends on the whole tile and on the place in it
        return x.mean((1, 2, 3), keepdims=True) * np.arange(12, dtype=np.float32)[:, None] + x

    expected = before.astype(np.float64)
    rows, columns = tiling.starts
    padded = tiling.pad(image)
    for y, down in zip(rows, blend_weights(rows, 16), strict=True):
        for x, across in zip(columns, blend_weights(columns, 12), strict=True):
            box = slice(y, y + 16), slice(x, x + 12)
            weights = (down[:, None] * across)[..., None]
            expected[box] += weights * change((padded[box] + before[box])[None])[0]
    difference = before.copy()
    add_change(padded, difference, change, tiling, 2)
    np.testing.assert_allclose(difference, expected, rtol=1e-5, atol=1e-3)
