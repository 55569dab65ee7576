"""Helpers that know nothing of the method: checks, files, random numbers, tables."""

from .checks import (
    checked_bool,
    checked_int,
    checked_number,
    checked_numbers,
    checked_range,
    nearest_name,
)
from .random_state import derive_seeds, fixed_random_state

__all__ = [
    'checked_bool',
    'checked_int',
    'checked_number',
    'checked_numbers',
    'checked_range',
    'derive_seeds',
    'fixed_random_state',
    'nearest_name',
]
