"""Messages of other libraries that a user cannot act on do not appear on the terminal."""

import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.logging import MMLogger

from mmebm.utils.quiet import quiet_terminal
from tests.tools import FOREIGN

ROOT = Path(__file__).parents[2]


def test_the_terminal_lacks_what_the_log_file_has(tmp_path, capsys):
    logger = MMLogger('test_quiet', log_file=str(tmp_path / 'log'))
    quiet_terminal(logger)
    lines = [
        '"FileClient" will be deprecated in future. Please use io functions in ...',
        '"HardDiskBackend" is the alias of "LocalBackend" and the former will be ...',
        'paramwise_options -- backbone.ln2.bias:weight_decay=0.0',
    ]
    for line in lines:
        logger.warning(line)
    logger.warning('the loss is not finite')
    printed, written = capsys.readouterr().out, (tmp_path / 'log').read_text()
    assert 'the loss is not finite' in printed
    assert len(printed.splitlines()) == 1
    assert all(line in written for line in lines)


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
