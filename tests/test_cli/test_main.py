"""The command as a program: help is quick because it imports nothing that trains."""

import subprocess
import sys

import pytest

import mmebm
from mmebm import corruptions
from mmebm.cli.main import COMMANDS, parse
from mmebm.cli.restore_command import CORRUPTIONS
from tests.tools import FOLDER

QUICK = """
import sys
import mmebm_command

for arguments in COMMANDS:
    sys.argv = ['mmebm', *arguments]
    try:
        mmebm_command.main()
    except SystemExit as stop:
        print('exit code', stop.code)
heavy = {'torch', 'numpy', 'mmengine', 'mmpretrain', 'cv2', 'matplotlib', 'rich'}
print('imported:', sorted(heavy.intersection(sys.modules)))
"""


def without_torch(*commands):
    """What command lines print and exit with, in a process that may not import torch."""
    code = QUICK.replace('COMMANDS', repr(commands))
    options = dict(cwd=FOLDER.parent, capture_output=True, text=True, timeout=300)
    done = subprocess.run([sys.executable, '-c', code], **options)
    assert done.stdout.endswith('imported: []\n'), done.stdout + done.stderr
    return done.stdout, done.stderr


def test_help_is_quick():
    out, _ = without_torch(['--help'], ['--version'], *([name, '--help'] for name in COMMANDS))
    assert out.count('exit code 0') == 2 + len(COMMANDS)
    assert f'\n{mmebm.__version__}\n' in out


def test_what_needs_no_torch_is_told_at_once():
    wrong = {
        'pretrain no/such --backbone b --out x': 'no/such',
        'pretrain . --backbone b --out x --hours -1': 'hours must be',
        'demo no/such': 'no/such',
        'benchmark . --out x': 'no folder train: it must hold train/CLASS/IMAGE',
        'restore . --out x --mask no/such': 'no/such',
        'restore . --out x --upscale 0': '--upscale: must be an integer ≥ 1, got 0',
        'restore . --out x --corruption GausianNoise': 'no GausianNoise, but GaussianNoise',
        'embed . . --out x.npy': '--out must be a file .npz',
    }
    out, error = without_torch(*map(str.split, wrong))
    assert out.count('exit code 2') == len(wrong)
    for line, expected in zip(error.splitlines(), wrong.values(), strict=True):
        assert expected in line


def test_restore_knows_every_corruption():
    known = {name for name in dir(corruptions) if isinstance(getattr(corruptions, name), type)}
    assert {*CORRUPTIONS} == known - {'BaseCorruption'} | {'config'}


def test_as_a_module_it_imports_nothing_before_it_has_looked():
    command = [sys.executable, '-X', 'importtime', '-m', 'mmebm', 'demo', 'no/such']
    done = subprocess.run(command, cwd=FOLDER.parent, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, 'no such file' in done.stderr) == (2, True)
    imported = {line.split()[-1] for line in done.stderr.splitlines()}
    assert imported & {'mmebm.cli.main', 'torch', 'numpy', 'cv2'} == {'mmebm.cli.main'}


@pytest.mark.parametrize('command', ['', *COMMANDS])
def test_help_fits_a_terminal(command, monkeypatch, capsys):
    monkeypatch.setenv('COLUMNS', '80')
    with pytest.raises(SystemExit):
        parse([*command.split(), '--help'])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
