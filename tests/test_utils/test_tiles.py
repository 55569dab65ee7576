import numpy as np
import pytest

from mmebm.utils.tiles import Tiling, add_change, blend_weights, padded_length, tile_starts


@pytest.mark.parametrize('tile', [1, 2, 7, 16, 48])
@pytest.mark.parametrize('align', [1, 3])
def test_tiles_cover_every_length_and_their_weights_sum_to_exactly_one(tile, align):
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
            total = np.zeros(length, np.float32)
            for start, weights in zip(starts, blend_weights(starts, tile), strict=True):
                assert weights.min() >= 0
                total[start : start + tile] += weights
            assert (total == 1).all()


def test_products_of_weights_sum_to_exactly_one():
    tiling = Tiling(61, 45, (16, 12), (4, 6))
    rows, columns = tiling.starts
    total = np.zeros(tiling.padded, np.float32)
    for y, down in zip(rows, blend_weights(rows, 16), strict=True):
        for x, across in zip(columns, blend_weights(columns, 12), strict=True):
            total[y : y + 16, x : x + 12] += down[:, None] * across
    assert (total == 1).all()


def test_weights_change_smoothly():
    weights = blend_weights(tile_starts(100, 32, 16), 32)
    assert np.abs(np.diff(weights, axis=1)).max() < 0.15


@pytest.mark.parametrize('bad', [dict(length=9), dict(overlap=10), dict(overlap=-1), dict(align=4)])
def test_bad_tiles_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        tile_starts(**{**dict(length=21, tile=10, overlap=2, align=1), **bad})


def changed(image, change, tiling, batch=3):
    padded = tiling.pad(image)
    difference = np.zeros(padded.shape, np.float32)
    add_change(padded, difference, change, tiling, batch)
    return tiling.crop(difference)


@pytest.mark.parametrize('size', [(5, 3), (16, 16), (17, 40), (50, 33)])
def test_a_change_of_each_pixel_alone_is_the_same_in_tiles_and_whole(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)

    def change(x):
        return np.sin(x)

    result = changed(image, change, Tiling(*size, (16, 16), (4, 4), 2))
    np.testing.assert_allclose(result, change(image.astype(np.float32)), atol=1e-6)


def test_add_change_is_the_weighted_sum_of_the_tiles():
    """Against sums over whole arrays; every tile must see the difference from before the call."""
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
    difference, counts = before.copy(), []
    add_change(padded, difference, change, tiling, 2, counts.append)
    np.testing.assert_allclose(difference, expected, rtol=1e-5, atol=1e-3)
    assert sum(counts) == len(tiling)
    assert max(counts) == 2


def test_a_change_never_gets_more_tiles_than_the_batch_holds():
    seen = []
    changed(
        np.zeros((40, 90, 3), np.uint8),
        lambda x: seen.append(len(x)) or x,
        Tiling(40, 90, (8, 8), (2, 2)),
        batch=4,
    )
    assert max(seen) == 4
