"""Checks of the options that a config gives, and the one place that settles channel order.

Every check returns the value in its final type, or raises an error that names the option, the value
received and what is allowed. NaN passes none of them, because it fails every comparison.
"""

from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np


def positive_int(name: str, value: int) -> int:
    """Return ``value`` if it is a whole number >= 1.

    Raises:
        TypeError: If it is not a whole number; a bool is not one.
        ValueError: If it is smaller than 1.
    """
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f'{name} must be an int >= 1, got {value!r}')
    if value < 1:
        raise ValueError(f'{name} must be an int >= 1, got {value!r}')
    return int(value)


def bounded_number(name: str, value: float, low: float, high: float) -> float:
    """Return ``value`` if it is a number in ``low..high``, both ends allowed.

    Raises:
        TypeError: If it is not a number; a bool is not one.
        ValueError: If it lies outside, or is NaN.
    """
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f'{name} must be a number in {low}..{high}, got {value!r}')
    if not low <= value <= high:
        raise ValueError(f'{name} must be a number in {low}..{high}, got {value!r}')
    return float(value)


def bounded_numbers(
    name: str, values: Sequence[float], length: int, low: float, high: float
) -> tuple[float, ...]:
    """Return ``values`` if it holds ``length`` numbers in ``low..high``, both ends allowed.

    Raises:
        TypeError: If it is not a list, tuple or array of numbers.
        ValueError: If it has another length, or a number lies outside or is NaN.
    """
    if not isinstance(values, Sequence | np.ndarray) or isinstance(values, str):
        raise TypeError(f'{name} must be {length} numbers in {low}..{high}, got {values!r}')
    if len(values) != length:
        raise ValueError(f'{name} must be {length} numbers in {low}..{high}, got {values!r}')
    return tuple(bounded_number(f'{name}[{i}]', v, low, high) for i, v in enumerate(values))


def bounded_range(
    name: str, values: Sequence[float], low: float, high: float
) -> tuple[float, float]:
    """Return ``values`` if it is a pair with ``low <= values[0] <= values[1] <= high``.

    Raises:
        TypeError, ValueError: As :func:`bounded_numbers`; also ValueError if the pair is reversed.
    """
    first, second = bounded_numbers(name, values, 2, low, high)
    if first > second:
        raise ValueError(f'{name} must be (smallest, largest), got the reverse: {values!r}')
    return first, second


def image_order(rgb: Sequence[float], to_rgb: bool) -> np.ndarray:
    """Bring one value per channel from RGB, as in configs, to the channel order of the images.

    Args:
        rgb: Three values in the order red, green, blue, like ``mean`` and ``std`` of MMPretrain's
            ``SelfSupDataPreprocessor``.
        to_rgb: As the same option of that preprocessor. True: the images arrive as BGR, which is
            what ``LoadImageFromFile`` delivers, and become RGB later. False: they are RGB already.

    Returns:
        Array (3,).

    Raises:
        TypeError: If ``to_rgb`` is not a bool.
    """
    if not isinstance(to_rgb, bool):
        raise TypeError(f'to_rgb must be True (images are BGR) or False (RGB), got {to_rgb!r}')
    return np.array(rgb[::-1] if to_rgb else rgb)
