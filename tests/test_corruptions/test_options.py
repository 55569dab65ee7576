import numpy as np
import pytest

from mmebm.corruptions.options import (
    bounded_number,
    bounded_numbers,
    bounded_range,
    image_order,
    positive_int,
)


@pytest.mark.parametrize('value', [1.0, '1', None, True, np.bool_(True)])
def test_positive_int_refuses_other_types(value):
    with pytest.raises(TypeError, match=r'size must be an int >= 1, got '):
        positive_int('size', value)


@pytest.mark.parametrize('value', [0, -3])
def test_positive_int_refuses_less_than_one(value):
    with pytest.raises(ValueError, match=f'size must be an int >= 1, got {value}'):
        positive_int('size', value)


def test_positive_int_takes_numpy_integers():
    assert positive_int('size', np.int64(3)) == 3


@pytest.mark.parametrize('value', [-0.1, 1.2, float('nan'), float('inf')])
def test_bounded_number_refuses_what_is_outside(value):
    with pytest.raises(ValueError, match=rf'ratio must be a number in 0\.\.1, got {value}'):
        bounded_number('ratio', value, 0, 1)


@pytest.mark.parametrize('value', ['0.5', None, False, 1j])
def test_bounded_number_refuses_other_types(value):
    with pytest.raises(TypeError, match=r'ratio must be a number in 0\.\.1, got '):
        bounded_number('ratio', value, 0, 1)


def test_bounded_number_takes_both_ends():
    assert bounded_number('ratio', 0, 0, 1) == 0
    assert bounded_number('ratio', np.float32(1), 0, 1) == 1


@pytest.mark.parametrize('values', [(1,), (1, 2, 3), ()])
def test_bounded_numbers_refuses_another_length(values):
    with pytest.raises(ValueError, match=r'mean must be 2 numbers in 0\.\.9, got '):
        bounded_numbers('mean', values, 2, 0, 9)


@pytest.mark.parametrize('values', ['12', 3, None, {1, 2}])
def test_bounded_numbers_refuses_what_is_no_sequence(values):
    with pytest.raises(TypeError, match=r'mean must be 2 numbers in 0\.\.9, got '):
        bounded_numbers('mean', values, 2, 0, 9)


def test_bounded_numbers_names_the_entry():
    with pytest.raises(ValueError, match=r'mean\[1\] must be a number in 0\.\.9, got nan'):
        bounded_numbers('mean', (1, float('nan')), 2, 0, 9)


def test_bounded_range_refuses_the_reverse():
    with pytest.raises(ValueError, match=r'gamma must be \(smallest, largest\), got the reverse'):
        bounded_range('gamma', (0.7, 0.3), 0, 1)


def test_bounded_range_takes_lists_and_equal_ends():
    assert bounded_range('gamma', [0.3, 0.3], 0, 1) == (0.3, 0.3)


def test_image_order():
    assert image_order((1, 2, 3), to_rgb=True).tolist() == [3, 2, 1]
    assert image_order((1, 2, 3), to_rgb=False).tolist() == [1, 2, 3]
    with pytest.raises(TypeError, match=r'to_rgb must be True .* or False .*, got 1'):
        image_order((1, 2, 3), to_rgb=1)
