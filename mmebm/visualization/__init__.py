from .chains import Chain, draw_chains, to_chains, to_uint8
from .sorting import to_sorting_chains

__all__ = ['Chain', 'draw_chains', 'to_chains', 'to_sorting_chains', 'to_uint8']
