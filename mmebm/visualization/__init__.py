"""Pictures of descent chains."""

from .chains import Chain, draw_chains, to_chains, to_uint8

__all__ = ['Chain', 'draw_chains', 'to_chains', 'to_uint8']
