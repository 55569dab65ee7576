"""The command as a program."""

import runpy
import sys

import pytest


def test_python_m_mmebm(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['mmebm', '--help'])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module('mmebm', run_name='__main__')
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert 'restore' in printed
    assert 'score' in printed
