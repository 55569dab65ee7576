"""Messages of other libraries that a user cannot act on do not appear on the terminal."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools import FOREIGN

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_import_is_silent_and_leaves_the_filters_of_warnings():
    """Even if all warnings are shown; the user's own filters stay in front."""
    script = (
        'import warnings, mmengine.model\n'
        "warnings.filterwarnings('always', 'mine')\n"
        'import mmebm\n'
        "assert any(f[1] is not None and f[1].pattern == 'mine' for f in warnings.filters)\n"
        "assert not any('MultiScale' in str(f[1]) for f in warnings.filters)\n"
        "warnings.warn('mine')\n"
    )
    done = subprocess.run(
        [sys.executable, '-c', script], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert 'UserWarning: mine' in done.stderr
    assert not [text for text in FOREIGN if text in done.stdout + done.stderr]
