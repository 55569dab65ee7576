"""Runs that are broken on purpose; its table is docs/reliability.md.

``make test`` does every row of a seeded choice once. ``make campaign`` sets CAMPAIGN, by which the
full counts are multiplied, and takes half an hour.
"""

import os

import pytest

SHARE = float(os.environ.get('CAMPAIGN') or 0)
long = pytest.mark.skipif(not SHARE, reason='a part of make campaign')


def count(full: int) -> int:
    """How often a row runs: its full count times CAMPAIGN, at least once."""
    return max(1, round(full * SHARE))
