"""The wheel, outside of the checkout: a folder of images becomes a backbone that timm loads."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
from PIL import Image

from tests.tools import FOREIGN

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_pretrain_from_a_wheel(tmp_path):
    def run(*command, **variables):
        done = subprocess.run(
            [sys.executable, '-m', *command],
            cwd=tmp_path,
            env=os.environ | variables,
            capture_output=True,
            text=True,
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

    rng = np.random.default_rng(0)
    (tmp_path / 'photos').mkdir()
    for i in range(12):
        pixels = rng.integers(0, 256, (40, 36, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f'photos/{i}.png')
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
    # as config.py says: the run once more
    again = ('mmebm.tools.train', 'out/config.py', '--work-dir', 'again')
    run(*again, PYTHONPATH='site', LOCAL_RANK='0')
    assert (tmp_path / 'again/last_checkpoint').is_file()
