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
