"""A folder of small images, and short runs on it."""

import pytest

import mmebm
from mmebm.pretraining import run as module
from tests.tools import write_noise

VIT = """
model = dict(
    backbone=dict(
        type='VisionTransformer',
        arch=dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=16),
        patch_size=8,
        drop_path_rate=0.2,
    )
)
"""
SHORT = dict(image_size=32, batch_size=8, workers=0)


@pytest.fixture(scope='session')
def photos(tmp_path_factory):
    """Two classes of images, light and dark."""
    classes = dict(dark=(0, 120), light=(120, 240))
    folder = tmp_path_factory.mktemp('here') / 'photos'
    return write_noise(folder, classes, 30, (40, 36), name='{} of 30.png')


@pytest.fixture
def vit(tmp_path):
    path = tmp_path / 'vit.py'
    path.write_text(VIT)
    return str(path)


@pytest.fixture
def said():
    return []


@pytest.fixture
def pretrain(photos, said, monkeypatch, tool_process):
    """``mmebm.pretrain`` of a backbone into a folder, for two iterations on small images."""
    monkeypatch.setattr(module, 'TRIAL_SECONDS', 0.0)

    def call(backbone, out, data=photos, **options):
        options = SHORT | dict(iterations=2, say=said.append) | options
        return mmebm.pretrain(data, backbone, out, **options)

    return call
