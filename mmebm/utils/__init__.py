"""Helpers that know nothing of the method: checks, files, random numbers, tables."""

from .checks import (
    UserError,
    checked_bool,
    checked_int,
    checked_number,
    checked_numbers,
    checked_range,
    nearest_name,
)
from .freed_memory import keep_freed_memory
from .random_state import derive_seeds, fixed_random_state

__all__ = [
    'UserError',
    'checked_bool',
    'checked_int',
    'checked_number',
    'checked_numbers',
    'checked_range',
    'derive_seeds',
    'fixed_random_state',
    'keep_freed_memory',
    'nearest_name',
]
