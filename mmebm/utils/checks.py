"""Checks of options: each returns the value in its final type, or raises and says what is allowed.

NaN never passes, because it fails every comparison.
"""

from collections.abc import Collection, Sequence
from difflib import get_close_matches
from math import inf, isfinite
from numbers import Integral, Real

import numpy as np


class UserError(RuntimeError):
    """A message for the user, where no built-in exception fits; see ``mmebm/cli/errors.py``."""


def checked_bool(name: str, value: bool) -> bool:
    """Return ``value`` if it is True or False, else raise TypeError."""
    if not isinstance(value, bool):
        raise TypeError(f'{name} must be True or False, got {value!r}')
    return value


def checked_int(name: str, value: int, minimum: int) -> int:
    """Return ``value`` if it is an integer ≥ ``minimum``.

    Raises:
        TypeError: it is not an integer; a bool does not count as one.
        ValueError: it is smaller.
    """
    allowed = f'{name} must be an integer ≥ {minimum}, got {value!r}'
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(allowed)
    if value < minimum:
        raise ValueError(allowed)
    return int(value)


def checked_number(
    name: str,
    value: float,
    low: float = -inf,
    high: float = inf,
    above: float = -inf,
    below: float = inf,
) -> float:
    """Return ``value`` if it is a finite number in the bounds given: [low, high], (above, below).

    Raises:
        TypeError: it is not a number; a bool does not count as one.
        ValueError: it is out of bounds, NaN or infinite.
    """
    bounds = ((low, '≥'), (above, '>'), (high, '≤'), (below, '<'))
    allowed = ' and '.join(f'{sign} {bound}' for bound, sign in bounds if isfinite(bound))
    if isfinite(low) and isfinite(high):
        allowed = f'in {low}..{high}'
    allowed = f'{name} must be a finite number {allowed}, got {value!r}'
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(allowed)
    if not (low <= value <= high and above < value < below):
        raise ValueError(allowed)
    return float(value)


def checked_numbers(
    name: str, values: Sequence[float], length: int, low: float, high: float, whole: bool = False
) -> tuple[float, ...]:
    """Return ``values`` if it holds ``length`` numbers in ``low..high``, both ends allowed.

    Raises:
        TypeError: it is not a list, tuple or array of numbers.
        ValueError: it has the wrong length, or a number is out of bounds, NaN, or not ``whole``.
    """
    kind = 'whole numbers' if whole else 'numbers'
    allowed = f'{name} must be {length} {kind} in {low}..{high}, got {values!r}'
    if not isinstance(values, Sequence | np.ndarray) or isinstance(values, str):
        raise TypeError(allowed)
    if len(values) != length:
        raise ValueError(allowed)
    numbers = [checked_number(f'{name}[{i}]', v, low, high) for i, v in enumerate(values)]
    if whole and any(v != int(v) for v in numbers):
        raise ValueError(allowed)
    return tuple(int(v) if whole else v for v in numbers)


def checked_range(
    name: str, values: Sequence[float], low: float, high: float, whole: bool = False
) -> tuple[float, float]:
    """Return ``values`` if it is a pair with ``low ≤ values[0] ≤ values[1] ≤ high``.

    Raises:
        TypeError, ValueError: as :func:`checked_numbers`; also ValueError if the pair is reversed.
    """
    first, second = checked_numbers(name, values, 2, low, high, whole)
    if first > second:
        raise ValueError(f'{name} must be (smallest, largest), got the reverse: {values!r}')
    return first, second


def nearest_name(name: str, allowed: Collection[str], cutoff: float = 0.6) -> str:
    """The end of a message about a name that is not allowed: ``', the nearest is X'`` or ``''``."""
    found = get_close_matches(name, list(allowed), n=1, cutoff=cutoff)
    return f', the nearest is {found[0]}' if found else ''
