"""Properties that hold for any image, size and option: corruptions, masks, configs.

Hypothesis draws the same examples each time, so that no run is red by chance.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config, ConfigDict
from mmpretrain.registry import TRANSFORMS

from mmebm.corruptions.degradations import blend_with_noise, pixelate
from mmebm.corruptions.masking import blank_pixels, block_mask, grid_mask
from mmebm.utils.config_text import parse_config_text

pytestmark = pytest.mark.slow  # many cases, some seconds in all


few = settings(derandomize=True, max_examples=25, deadline=None, database=None)

seeds = st.integers(0, 2**32 - 1)
sides = st.integers(1, 33)
shares = st.floats(0, 1)
SCALES = st.sampled_from([1, 2, 3, 8, 16])


@st.composite
def ranges(draw, low=0.0, high=1.0):
    """A pair, the smaller number first."""
    return tuple(sorted((draw(st.floats(low, high)), draw(st.floats(low, high)))))


@st.composite
def images(draw):
    """(H, W, 3) uint8: noise, constant or of two values; sometimes a mirrored view."""
    height, width, seed = draw(sides), draw(sides), draw(seeds)
    rng = np.random.default_rng(seed)
    low, high = sorted(rng.integers(0, 256, 2))
    kind = draw(st.sampled_from(['noise', 'constant', 'two values']))
    if kind == 'constant':
        return np.full((height, width, 3), high, np.uint8)
    shape = height, width, 3
    values = rng.integers(0, 256, shape) if kind == 'noise' else rng.choice([low, high], shape)
    values = values.astype(np.uint8)
    return values[:, ::-1] if draw(st.booleans()) else values


@st.composite
def corruptions(draw):
    """The config of any corruption."""
    fill = tuple(draw(st.lists(st.integers(0, 255), min_size=3, max_size=3)))
    kinds = [
        dict(type='GriddedMask', patch_size=draw(SCALES), ratio=draw(shares), fill=fill),
        dict(
            type='RandomBlockMask',
            num_blocks=draw(st.integers(1, 5)),
            area_range=draw(ranges()),
            aspect_range=draw(ranges(0.01, 100)),
            fill=fill,
        ),
        dict(type='SuperResolution', scale=draw(SCALES), antialias=draw(st.booleans())),
        dict(type='GaussianNoise', gamma_range=draw(ranges())),
        dict(type='Colorization', to_rgb=draw(st.booleans())),
    ]
    if draw(st.booleans()):
        return draw(st.sampled_from(kinds))
    return dict(type='MixedCorruption', corruptions=kinds)


@few
@given(images(), corruptions(), st.integers(0, 1000))
def test_any_corruption(image, config, index):
    before = image.copy()
    transform = TRANSFORMS.build(dict(config, seed=3))
    first, again = (transform.transform(dict(img=image, sample_idx=index)) for _ in range(2))
    corrupted, clean = first['img']
    assert clean is image
    assert np.array_equal(image, before)
    assert not np.may_share_memory(corrupted, image)
    assert corrupted.shape == image.shape
    assert corrupted.dtype == transform.dtype
    assert np.isfinite(corrupted).all()
    assert np.array_equal(corrupted, again['img'][0])
    assert first['corruption'] == again['corruption']


@few
@given(sides, sides, st.integers(1, 40), shares, seeds)
def test_grid_mask_chooses_whole_cells(height, width, patch_size, ratio, seed):
    mask = grid_mask(height, width, patch_size, ratio, np.random.default_rng(seed))
    assert mask.shape == (height, width)
    corners = mask[::patch_size, ::patch_size]
    assert corners.sum() == round(ratio * corners.size)
    rows, columns = np.arange(height) // patch_size, np.arange(width) // patch_size
    assert np.array_equal(mask, corners[rows][:, columns])


@few
@given(sides, sides, ranges(), ranges(0.01, 100), seeds)
def test_a_block_is_a_rectangle_of_the_wanted_area(height, width, areas, aspects, seed):
    mask = block_mask(height, width, 1, areas, aspects, np.random.default_rng(seed))
    rows, columns = mask.any(1), mask.any(0)
    assert np.array_equal(mask, rows[:, None] & columns)
    for inside in rows, columns:
        assert (np.diff(np.flatnonzero(inside)) == 1).all()
    h, w = rows.sum(), columns.sum()
    assert 1 <= h <= height
    assert 1 <= w <= width
    # sides are rounded, by half a pixel at most, and up to one pixel where that is more
    assert min(h, w) == 1 or (h - 0.5) * (w - 0.5) <= areas[1] * height * width
    assert (h + 0.5) * (w + 0.5) >= areas[0] * height * width


@few
@given(images(), seeds)
def test_blank_pixels_are_the_masked_ones(image, seed):
    rng = np.random.default_rng(seed)
    mask, pixel = rng.random(image.shape[:2]) < 0.5, rng.integers(0, 256, 3).astype(np.uint8)
    expected = np.where(mask[..., None], pixel, image)
    assert np.array_equal(blank_pixels(np.ascontiguousarray(image), mask, pixel), expected)


@few
@given(images(), SCALES, st.booleans())
def test_pixelate_makes_constant_blocks(image, scale, antialias):
    image = np.ascontiguousarray(image)
    result = pixelate(image, scale, antialias)
    rows, columns = (np.arange(side) // scale * scale for side in image.shape[:2])
    assert np.array_equal(result, result[rows][:, columns])
    if scale == 1 or image.min() == image.max():
        assert np.array_equal(result, image)


@few
@given(images(), shares, seeds)
def test_noise_is_the_papers_formula(image, gamma, seed):
    rng = np.random.default_rng(seed)
    mean, std = rng.uniform(0, 255, 3), rng.uniform(1, 255, 3)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    blended = blend_with_noise(np.ascontiguousarray(image), gamma, noise, mean, std)
    normalised = (image - mean) / std
    expected = np.sqrt(gamma) * normalised + np.sqrt(1 - gamma) * noise
    assert np.allclose((blended - mean) / std, expected, rtol=0, atol=1e-4)


@few
@given(images(), st.booleans())
def test_colorization_leaves_grey_alone(image, to_rgb):
    transform = TRANSFORMS.build(dict(type='Colorization', to_rgb=to_rgb))
    rng = np.random.default_rng(0)
    grey = transform.corrupt(np.ascontiguousarray(image), rng)
    assert (grey == grey[..., :1]).all()
    assert np.array_equal(transform.corrupt(grey, rng), grey)
    assert image.min() <= grey.min()
    assert grey.max() <= image.max()


names = st.from_regex(r'[a-z_][a-z0-9_]{0,8}', fullmatch=True).filter(
    lambda name: name not in ('type', '_base_', '_delete_') and name.isidentifier()
)
plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12),
)
configs = st.recursive(
    plain,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(names, inner, max_size=3),
    ),
    max_leaves=8,
)


@few
@given(st.dictionaries(names, configs, min_size=1, max_size=4))
def test_config_text_there_and_back(config):
    text = Config(config).pretty_text
    assert parse_config_text(text) == ConfigDict(config)


@few
@given(st.dictionaries(names, configs, max_size=2), st.sampled_from(['f()', 'x', '[].x', 'a + b']))
def test_code_in_a_config_is_refused(config, code):
    with pytest.raises(ValueError, match=r'not run|not readable'):
        parse_config_text(f'{Config(config).pretty_text}\nlast = dict(inner=[{code}])')
