"""The command as a program: help is quick because it imports nothing that trains."""

import runpy
import subprocess
import sys

import pytest

from mmebm.cli.main import COMMANDS, main
from tests.tools import FOLDER

ALL_HELP = """
import sys
import mmebm_command

for arguments in COMMANDS:
    sys.argv = ['mmebm', *arguments]
    try:
        mmebm_command.main()
    except SystemExit as stop:
        assert not stop.code, arguments
heavy = {'torch', 'numpy', 'mmengine', 'mmpretrain', 'cv2', 'matplotlib', 'rich'}
print('imported:', sorted(heavy.intersection(sys.modules)))
"""


def test_no_help_imports_what_trains():
    commands = [['--help'], *([name, 'some', '--help'] for name in COMMANDS), ['score', '-h']]
    code = ALL_HELP.replace('COMMANDS', repr(commands))
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=FOLDER.parent, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith('imported: []\n')
    assert all(f'usage: mmebm {name}' in done.stdout for name in COMMANDS)


def test_python_m_mmebm(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['mmebm', '--help'])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module('mmebm', run_name='__main__')
    assert stop.value.code == 0
    assert 'restore' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('arguments', 'near'),
    [
        (['pretrian'], 'pretrain'),
        (['pretrain', 'x', '--out', 'y', '--precision', 'bfloat'], 'bfloat16'),
        (['restore', 'x', 'y', '--out', 'z', '--stirp'], '--strip'),
    ],
)
def test_the_nearest_name(capsys, arguments, near):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert capsys.readouterr().err.endswith(f', the nearest is {near}\n')
