"""Impossible options: refused where they are given, by an error that names option and value.

One table per kind. A row has what is built, options that are right, the impossible one, and the
error.
"""

import numpy as np
import pytest
import torch

import mmebm
from mmebm.corruptions import (
    BaseCorruption,
    Blur,
    Colorization,
    Fog,
    FrequencyMask,
    GaussianNoise,
    GriddedMask,
    JPEGCompression,
    MixedCorruption,
    RandomBlockMask,
    Shuffle,
    SuperResolution,
)
from mmebm.corruptions.base import image_order
from mmebm.utils import checked_int, checked_number, checked_numbers, checked_range, nearest_name

NAN, INF = float('nan'), float('inf')
GREY = dict(type='Colorization')
GRID = dict(patch_size=16, ratio=0.5)
BLOCKS = dict(num_blocks=75, area_range=(0.01, 0.025), aspect_range=(0.5, 2.0))


def assert_refused(build, right, wrong, error):
    """``build`` takes the right options, and refuses them with the wrong one."""
    (name, value), *_ = wrong.items()
    build(**right)
    with pytest.raises(error) as raised:
        build(**{**right, **wrong})
    assert name in str(raised.value)
    assert repr(value) in str(raised.value) or f'{name}[' in str(raised.value)


@pytest.mark.parametrize(
    ('kind', 'right', 'wrong', 'error'),
    [
        (Colorization, {}, dict(seed=-1), ValueError),
        (Colorization, {}, dict(seed=0.5), TypeError),
        (Colorization, {}, dict(weights=(0.5, 0.5, 0.5)), ValueError),
        (Colorization, {}, dict(weights=(1.5, -0.5, 0)), ValueError),
        (Colorization, {}, dict(to_rgb=0), TypeError),
        (GriddedMask, GRID, dict(ratio=1.2), ValueError),
        (GriddedMask, GRID, dict(ratio=NAN), ValueError),
        (GriddedMask, GRID, dict(patch_size=0), ValueError),
        (GriddedMask, GRID, dict(patch_size=16.0), TypeError),
        (GriddedMask, GRID, dict(fill=(0, 0)), ValueError),
        (GriddedMask, GRID, dict(fill=(0, 0.5, 0)), ValueError),
        (GriddedMask, GRID, dict(to_rgb='yes'), TypeError),
        (RandomBlockMask, BLOCKS, dict(num_blocks=0), ValueError),
        (RandomBlockMask, BLOCKS, dict(area_range=(0.3, 0.1)), ValueError),
        (RandomBlockMask, BLOCKS, dict(area_range=0.1), TypeError),
        (RandomBlockMask, BLOCKS, dict(aspect_range=(0, 1)), ValueError),
        (SuperResolution, dict(scale=2), dict(scale=0), ValueError),
        (SuperResolution, dict(scale=2), dict(antialias=1), TypeError),
        (GaussianNoise, {}, dict(gamma_range=(0.5, 0.1)), ValueError),
        (GaussianNoise, {}, dict(mean=(0, 0)), ValueError),
        (GaussianNoise, {}, dict(std=(1, 0, 1)), ValueError),
        (GaussianNoise, dict(seed=3), dict(on_device=True), ValueError),
        (MixedCorruption, dict(corruptions=[GREY]), dict(corruptions=GREY), TypeError),
        (MixedCorruption, dict(corruptions=[GREY]), dict(corruptions=[]), ValueError),
        (MixedCorruption, dict(corruptions=[GREY]), dict(probs=[0.5]), ValueError),
        (MixedCorruption, dict(corruptions=[GREY]), dict(probs=[1, 0]), ValueError),
        (MixedCorruption, dict(corruptions=[GREY]), dict(probs=0.5), TypeError),
        (Blur, dict(sigma_range=(0, 1)), dict(sigma_range=(0, 101)), ValueError),
        (JPEGCompression, dict(quality_range=(5, 9)), dict(quality_range=(0, 9)), ValueError),
        (JPEGCompression, dict(quality_range=(5, 9)), dict(quality_range=(5.5, 9)), ValueError),
        (FrequencyMask, dict(low_range=(0, 0), width=0.1), dict(low_range=(0, 0.8)), ValueError),
        (FrequencyMask, dict(low_range=(0, 0), width=0.1), dict(width=0), ValueError),
        (Shuffle, dict(patch_size=4), dict(ratio=1.2), ValueError),
        (Fog, {}, dict(density_range=(0, 2)), ValueError),
    ],
)
def test_corruptions(kind, right, wrong, error):
    if 'corruptions' in wrong:
        wrong = dict(wrong)
        with pytest.raises(error, match='corruptions must'):
            kind(**wrong)
    else:
        assert_refused(kind, right, wrong, error)


@pytest.mark.parametrize(
    ('entry', 'error', 'message'),
    [
        (dict(type='Colourisation'), ValueError, 'nearest is Colorization'),
        (dict(scale=3), ValueError, "'scale': 3"),
        (dict(type='RandomFlip', prob=0.5), TypeError, "'RandomFlip'"),
        (Colorization, TypeError, 'Colorization'),
        (dict(type='Colorization', seed=3), ValueError, 'seed=3'),
        (dict(type='SuperResolution', scale=0), ValueError, 'scale must be an integer ≥ 1, got 0'),
    ],
)
def test_entries_of_a_mixture(entry, error, message):
    with pytest.raises(error, match=message):
        MixedCorruption([GREY, entry])


@pytest.mark.parametrize(
    ('image', 'error'),
    [
        (np.zeros((4, 5), np.uint8), ValueError),
        (np.zeros((4, 5, 4), np.uint8), ValueError),
        (np.zeros((0, 5, 3), np.uint8), ValueError),
        (np.zeros((4, 5, 3), np.float32), TypeError),
        (None, TypeError),
        ([np.zeros((4, 5, 3), np.uint8)] * 2, TypeError),  # corrupted before
    ],
)
def test_images(image, error):
    with pytest.raises(error) as raised:
        Colorization()(dict(img=image))
    assert 'Colorization' in str(raised.value)
    assert str(getattr(image, 'shape', type(image).__name__)) in str(raised.value)
    with pytest.raises(ValueError, match='sample_idx'):
        GriddedMask(**GRID, seed=3)(dict(img=np.zeros((4, 5, 3), np.uint8)))


@pytest.mark.parametrize(
    ('function', 'error', 'got'),
    [
        (lambda x: x / 2, TypeError, r'\(4, 5, 3\) float64'),
        (lambda x: x[::2], ValueError, r'\(2, 5, 3\) uint8'),
        (lambda x: None, TypeError, 'NoneType'),
    ],
)
def test_results_of_a_corruption_of_ones_own(function, error, got):
    class Own(BaseCorruption):
        def corrupt(self, image, rng):
            return function(image)

    with pytest.raises(error, match=rf'Own\.corrupt must return \(4, 5, 3\) uint8, got .*{got}'):
        Own()(dict(img=np.zeros((4, 5, 3), np.uint8)))


@pytest.mark.parametrize(
    ('check', 'right', 'wrong', 'error'),
    [
        (checked_int, dict(minimum=1), [0, -3], ValueError),
        (checked_int, dict(minimum=1), [1.0, '1', None, True, np.bool_(True)], TypeError),
        (checked_number, dict(low=0, high=1), [-0.1, 1.2, NAN, INF], ValueError),
        (checked_number, dict(low=0, high=1), ['0.5', None, False, 1j], TypeError),
        (checked_number, dict(above=0), [0, -1], ValueError),
        (checked_numbers, dict(length=2, low=0, high=9), [(1,), (1, 2, 3), (1, NAN)], ValueError),
        (checked_numbers, dict(length=2, low=0, high=9), ['12', 3, None, {1, 2}], TypeError),
        (checked_numbers, dict(length=1, low=0, high=9, whole=True), [(0.5,)], ValueError),
        (checked_range, dict(low=0, high=1), [(0.7, 0.3), (0, 2)], ValueError),
    ],
)
def test_checks(check, right, wrong, error):
    for value in wrong:
        with pytest.raises(error, match=r'size(\[1\])? must be'):
            check('size', value, **right)


def test_what_checks_let_through():
    assert checked_int('size', np.int64(3), minimum=1) == 3
    assert checked_number('size', np.float32(1), 0, 1) == 1
    assert checked_range('size', [0.3, 0.3], 0, 1) == (0.3, 0.3)
    assert checked_range('size', [5, 9.0], 0, 10, whole=True) == (5, 9)
    assert image_order((1, 2, 3), to_rgb=True).tolist() == [3, 2, 1]
    assert image_order((1, 2, 3), to_rgb=False).tolist() == [1, 2, 3]
    assert nearest_name('finetun', ('finetune', 'probe')) == ', the nearest is finetune'
    assert nearest_name('other', ('finetune', 'probe')) == ''


@pytest.mark.parametrize(
    ('wrong', 'error'),
    [
        (dict(repeats=0), ValueError),
        (dict(repeats=1.5), TypeError),
        (dict(seed=-1), ValueError),
        (dict(max_refetch=-1), ValueError),
        (dict(max_refetch=True), TypeError),
        (dict(extensions='.jpg'), TypeError),
    ],
)
def test_data(tmp_path, wrong, error):
    (tmp_path / '1.jpg').touch()
    assert_refused(mmebm.ImageFolder, dict(data_root=str(tmp_path)), wrong, error)


WRAPPER = dict(optimizer=torch.optim.SGD([torch.zeros(1)], 0.1), dtype='float32')


@pytest.mark.parametrize(
    ('kind', 'right', 'wrong', 'error'),
    [
        (mmebm.UnreadableImagesHook, {}, dict(max_share=-0.1), ValueError),
        (mmebm.UnreadableImagesHook, {}, dict(max_share=NAN), ValueError),
        (mmebm.RestorationVisualizationHook, {}, dict(num_images=0), ValueError),
        (mmebm.RestorationVisualizationHook, {}, dict(interval=1.5), TypeError),
        (mmebm.NeighbourAccuracyHook, {}, dict(k=0), ValueError),
        (mmebm.MixedPrecisionOptimWrapper, WRAPPER, dict(dtype='float8'), ValueError),
        (mmebm.MixedPrecisionOptimWrapper, WRAPPER, dict(loss_scale='none'), TypeError),
        (mmebm.MixedPrecisionOptimWrapper, WRAPPER, dict(loss_scale=0), ValueError),
    ],
)
def test_hooks_and_optimizer(kind, right, wrong, error):
    assert_refused(kind, right, wrong, error)
