"""The command as a program."""

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_python_m_mmebm():
    command = [sys.executable, '-m', 'mmebm']
    done = subprocess.run([*command, '--help'], capture_output=True, text=True)
    assert done.returncode == 0
    assert 'restore' in done.stdout
    assert 'score' in done.stdout
