"""``mmebm pretrain --gpus 2`` on a CPU, as users start it: all processes end, saved."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.tools import write_images

from . import count, long
from .runs import LIMIT, PATIENCE, ROOT


def ranks(parent):
    """The processes that torchrun has started."""
    listed = subprocess.run(['ps', '-o', 'pid=', '--ppid', str(parent)], capture_output=True)
    return [int(pid) for pid in listed.stdout.split()]


@long
@pytest.mark.parametrize('run', range(count(3)))
@pytest.mark.parametrize(
    ('number', 'code'), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, 2)]
)
def test_together(tmp_path, number, code, run):
    """A signal to the command, or one of its processes killed; then the same command again."""
    write_images(tmp_path / 'images', 40)
    options = ['--image-size', '32', '--batch-size', '4', '--workers', '2', '--gpus', '2']
    options += ['--iterations', '300', '--backbone', 'timm/test_vit', '--out', tmp_path / 'out']
    command = [sys.executable, '-m', 'mmebm', 'pretrain', tmp_path / 'images', *options]
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    with (tmp_path / 'said.txt').open('a') as said:
        started = dict(env=environment, cwd=tmp_path, stdout=said, stderr=said)
        process, end = subprocess.Popen(command, **started), time.monotonic() + PATIENCE
        while not (tmp_path / 'out' / 'last_checkpoint').is_file():
            assert time.monotonic() < end
            assert process.poll() is None, (tmp_path / 'said.txt').read_text()
            time.sleep(0.1)
        children = ranks(process.pid)
        assert len(children) >= 2
        os.kill(children[run % 2] if number == signal.SIGKILL else process.pid, number)
        assert process.wait(LIMIT) == code, (tmp_path / 'said.txt').read_text()
        end = time.monotonic() + LIMIT
        while any(os.path.exists(f'/proc/{pid}') for pid in children):
            assert time.monotonic() < end
            time.sleep(0.1)
        assert subprocess.run(command, timeout=PATIENCE, **started).returncode == 0
    assert (tmp_path / 'out' / 'backbone.safetensors').is_file()
