"""The command as a program."""

import runpy
import sys

import pytest

from mmebm.cli.main import main


def test_python_m_mmebm(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['mmebm', '--help'])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module('mmebm', run_name='__main__')
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert 'restore' in printed
    assert 'score' in printed


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
