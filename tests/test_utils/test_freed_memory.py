"""How the C library is told to keep freed memory."""

import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config

from mmebm.engine import runner as engine_runner
from mmebm.utils import freed_memory, keep_freed_memory


@pytest.fixture
def calls(monkeypatch):
    """The calls of ``mallopt`` in a C library that has it, on Linux."""
    calls = []
    library = SimpleNamespace(mallopt=lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(freed_memory.sys, 'platform', 'linux')
    monkeypatch.setattr(freed_memory.ctypes, 'CDLL', lambda name: library)
    return calls


def test_glibc_is_told_to_keep_it(calls):
    keep_freed_memory()
    # M_MMAP_THRESHOLD = -3, at most 32 MiB on 64 bits; M_TRIM_THRESHOLD = -1, an int
    assert calls == [(-3, 33_554_432), (-1, 2_147_483_647)]


def test_another_c_library_is_left_alone(monkeypatch, calls):
    monkeypatch.setattr(freed_memory.ctypes, 'CDLL', lambda name: SimpleNamespace())
    keep_freed_memory()
    assert calls == []


@pytest.mark.parametrize('platform', ['darwin', 'win32'])
def test_another_system_is_left_alone(monkeypatch, calls, platform):
    monkeypatch.setattr(freed_memory.sys, 'platform', platform)
    keep_freed_memory()
    assert calls == []


@pytest.mark.parametrize('gpu', [True, False])
def test_the_tools_keep_it_where_there_is_no_gpu(gpu, monkeypatch):
    calls = []
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.setattr(engine_runner, 'keep_freed_memory', lambda: calls.append('kept'))
    nothing = dict(hooks=[], register_hook=lambda hook: None)
    runner = SimpleNamespace(logger=logging.getLogger('test'), **nothing)
    monkeypatch.setattr(engine_runner.Runner, 'from_cfg', lambda cfg: runner)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)
    assert engine_runner.runner_of(Config(dict(launcher='none'))) is runner
    assert calls == ([] if gpu else ['kept'])
