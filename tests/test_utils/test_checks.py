import numpy as np
import pytest

from mmebm.corruptions.base import image_order
from mmebm.utils import (
    checked_int,
    checked_number,
    checked_numbers,
    checked_range,
    nearest_name,
)


@pytest.mark.parametrize('value', [1.0, '1', None, True, np.bool_(True)])
def test_checked_int_refuses_other_types(value):
    with pytest.raises(TypeError, match=r'size must be an integer ≥ 1, got '):
        checked_int('size', value, minimum=1)


@pytest.mark.parametrize('value', [0, -3])
def test_checked_int_refuses_less_than_one(value):
    with pytest.raises(ValueError, match=f'size must be an integer ≥ 1, got {value}'):
        checked_int('size', value, minimum=1)


def test_checked_int_takes_numpy_integers():
    assert checked_int('size', np.int64(3), minimum=1) == 3


@pytest.mark.parametrize('value', [-0.1, 1.2, float('nan'), float('inf')])
def test_checked_number_refuses_values_out_of_bounds(value):
    with pytest.raises(ValueError, match=rf'ratio must be a finite number in 0..1, got {value}'):
        checked_number('ratio', value, 0, 1)


@pytest.mark.parametrize('value', ['0.5', None, False, 1j])
def test_checked_number_refuses_other_types(value):
    with pytest.raises(TypeError, match=r'ratio must be a finite number in 0\.\.1, got '):
        checked_number('ratio', value, 0, 1)


def test_checked_number_takes_both_ends():
    assert checked_number('ratio', 0, 0, 1) == 0
    assert checked_number('ratio', np.float32(1), 0, 1) == 1


@pytest.mark.parametrize('values', [(1,), (1, 2, 3), ()])
def test_checked_numbers_refuses_another_length(values):
    with pytest.raises(ValueError, match=r'mean must be 2 numbers in 0\.\.9, got '):
        checked_numbers('mean', values, 2, 0, 9)


@pytest.mark.parametrize('values', ['12', 3, None, {1, 2}])
def test_checked_numbers_refuses_other_types(values):
    with pytest.raises(TypeError, match=r'mean must be 2 numbers in 0\.\.9, got '):
        checked_numbers('mean', values, 2, 0, 9)


def test_checked_numbers_names_the_entry():
    with pytest.raises(ValueError, match=r'mean\[1\] must be a finite number in 0\.\.9, got nan'):
        checked_numbers('mean', (1, float('nan')), 2, 0, 9)


def test_checked_range_refuses_the_reverse():
    with pytest.raises(ValueError, match=r'gamma must be \(smallest, largest\), got the reverse'):
        checked_range('gamma', (0.7, 0.3), 0, 1)


def test_checked_range_takes_lists_and_equal_ends():
    assert checked_range('gamma', [0.3, 0.3], 0, 1) == (0.3, 0.3)


def test_image_order():
    assert image_order((1, 2, 3), to_rgb=True).tolist() == [3, 2, 1]
    assert image_order((1, 2, 3), to_rgb=False).tolist() == [1, 2, 3]
    with pytest.raises(TypeError, match=r'to_rgb must be True or False, got 1'):
        image_order((1, 2, 3), to_rgb=1)


def test_nearest_name():
    assert nearest_name('finetun', ('finetune', 'probe', 'knn')) == ', the nearest is finetune'
    assert nearest_name('other', ('finetune', 'probe', 'knn')) == ''
