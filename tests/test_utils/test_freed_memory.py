"""What the C library does with freed memory."""

import subprocess
import sys

import pytest
import torch
from mmengine.config import Config

from mmebm.cli import launch as _launch

# Pages that are new to the process while it fills 160 MB, frees them, and does so again.
PROGRAM = """
import resource, sys
import torch
from mmebm.utils import keep_freed_memory
if sys.argv[1] == 'keep':
    keep_freed_memory()
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    kept = [torch.ones(2**21) for _ in range(20)]
    del kept
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='glibc only')
def test_freed_memory_is_used_again():
    def new_pages(argument):
        command = [sys.executable, '-c', PROGRAM, argument]
        return int(subprocess.run(command, capture_output=True, check=True).stdout.split()[-1])

    returned, kept = new_pages('return'), new_pages('keep')
    assert returned > 30_000  # of 40 960 pages of 4 KB
    assert kept < 3_000


@pytest.mark.parametrize('gpu', [True, False])
def test_the_tools_keep_it_where_there_is_no_gpu(gpu, monkeypatch):
    calls = []
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.setattr(_launch, 'keep_freed_memory', lambda: calls.append('kept'))
    monkeypatch.setattr(_launch.Runner, 'from_cfg', lambda cfg: 'runner')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)
    assert _launch.build_runner(Config(dict(launcher='none')), local_rank=0) == 'runner'
    assert calls == ([] if gpu else ['kept'])
