"""Small parts without a stage of their own."""

from .freed_memory import keep_freed_memory
from .random_state import derive_seeds, fixed_random_state

__all__ = ['derive_seeds', 'fixed_random_state', 'keep_freed_memory']
