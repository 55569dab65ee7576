"""The wheel, outside of the checkout: a folder of images becomes a backbone that timm loads.

Its processes lack what macOS or Windows does not have.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import timm
from mmengine.config import Config

from mmebm.benchmark import training
from tests.processes import LIMIT
from tests.tools import FOREIGN, write_images

ROOT = Path(__file__).parents[1]
# modules are hidden from ours only: other libraries ask for the system before they import them
ELSEWHERE = """
import builtins, os, signal

for name in ('sched_getaffinity', 'killpg', 'getpgid', 'setpgrp', 'setsid', 'nice', 'sysconf'):
    delattr(os, name)
for name in ('SIGHUP', 'SIGKILL', 'SIGALRM', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'):
    delattr(signal, name)
real = builtins.__import__


def hiding(name, space=None, *rest, **named):
    ours = (space or {}).get('__name__', '').startswith('mmebm')
    return real(ours and HIDDEN.get(name, name) or name, space, *rest, **named)


HIDDEN = {name: f'{name}_is_hidden' for name in ('fcntl', 'resource', 'pwd', 'grp', 'termios')}
builtins.__import__ = hiding
"""


@pytest.mark.slow
def test_pretrain_from_a_wheel(tmp_path, monkeypatch):
    def run(*command, **variables):
        done = subprocess.run(
            [sys.executable, '-m', *command],
            cwd=tmp_path,
            env=os.environ | variables,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    pip = ('pip', '--quiet', '--disable-pip-version-check', '--no-input')
    # a build leaves files in its folder
    others = shutil.ignore_patterns('.*', '__pycache__', 'build', 'dist', '*.egg-info', 'work_dirs')
    shutil.copytree(ROOT, tmp_path / 'source', ignore=others)
    run(*pip, 'wheel', '--no-deps', '--no-build-isolation', '--wheel-dir', 'wheels', './source')
    (wheel,) = (tmp_path / 'wheels').iterdir()
    zipfile.ZipFile(wheel).extractall(tmp_path / 'site')
    (tmp_path / 'site/sitecustomize.py').write_text(ELSEWHERE)

    write_images(tmp_path / 'photos', 12)
    said = run(
        *('mmebm', 'pretrain', 'photos', '--backbone', 'timm/test_vit2', '--out', 'out'),
        *('--image-size', '32', '--iterations', '1', '--batch-size', '4', '--workers', '0'),
        *('--precision', 'float32'),
        PYTHONPATH='site',
    )
    assert not [text for text in FOREIGN if text in said]
    network = timm.create_model('test_vit2', img_size=32, num_classes=0)
    tensors = safetensors.torch.load_file(tmp_path / 'out/backbone.safetensors')
    network.load_state_dict(tensors)  # strict
    # the run once more, as a stage of a benchmark and by the wheel's tools/train.py
    config = Config.fromfile(tmp_path / 'out/config.py')
    config.custom_imports = dict(imports=['mmebm.benchmark.training'])
    config.custom_hooks.append(dict(type='SecondsHook'))
    monkeypatch.setattr(training, 'shipped', lambda name: tmp_path / 'site/mmebm' / name)
    monkeypatch.setenv('PYTHONPATH', str(tmp_path / 'site'))
    monkeypatch.setenv('LOCAL_RANK', '0')
    stage = training.train(config, training.Stage('own', 0, tmp_path / 'again', 1), print)
    assert stage.failure == ''
    assert stage.checkpoint.is_file()
    assert min(stage.seconds) > 0
