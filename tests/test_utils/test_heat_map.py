"""The map of where an image changes."""

import numpy as np
import pytest

from mmebm.utils.heat_map import heat_map


def test_heat_is_where_the_change_is():
    change = np.zeros((32, 48, 3))
    change[10:14, 30:34] = -5
    heat = heat_map(change, 16)
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert row in range(10, 14)
    assert column in range(30, 34)
    assert heat[25, 5] < 0.01 * heat.max()
    assert heat.dtype == np.float32


def test_a_change_of_the_same_size_everywhere_is_the_heat():
    np.testing.assert_allclose(heat_map(np.full((9, 12, 3), -3.0)), 3, rtol=1e-5)


@pytest.mark.parametrize('size', [16, None])
def test_heat_against_a_gaussian_summed_by_hand(size):
    change = np.zeros((64, 80, 3))
    change[30, 40] = 2.0, 0.0, -2.0  # mean square 8/3
    sigma = (size or 64) / 16
    offsets = np.arange(-30, 31)
    weights = np.exp(-(offsets**2) / (2 * sigma**2))
    for row, column in ((30, 40), (31, 38)):
        share = weights[30 + row - 30] * weights[30 + column - 40] / weights.sum() ** 2
        expected = np.sqrt(8 / 3 * share)
        assert heat_map(change, size)[row, column] == pytest.approx(expected, rel=1e-3)
