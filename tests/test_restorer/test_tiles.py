"""Tiles against sums over whole arrays; that they cover every image: test_restorer.py."""

import numpy as np

from mmebm.restorer.tiles import Tiling, add_change, blend_weights, tile_starts


def test_weights_change_smoothly():
    weights = blend_weights(tile_starts(100, 32, 16), 32)
    assert np.abs(np.diff(weights, axis=1)).max() < 0.15


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
