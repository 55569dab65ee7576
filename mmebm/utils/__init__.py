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

__all__ = [
    'UserError',
    'checked_bool',
    'checked_int',
    'checked_number',
    'checked_numbers',
    'checked_range',
    'keep_freed_memory',
    'nearest_name',
]
