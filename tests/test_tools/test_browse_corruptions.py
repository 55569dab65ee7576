"""Pictures from the loader of a config."""

import numpy as np
import pytest
from mmengine.config import Config
from mmpretrain.registry import DATASETS
from PIL import Image

from tests.tools import load_tool

BROWSE = 'visualization/browse_corruptions'

CONFIG = """
custom_imports = dict(imports=['mmebm'], allow_failed_imports=False)
randomness = dict(seed=0)
model = dict(data_preprocessor=dict(type='SelfSupDataPreprocessor', to_rgb=True))
corruption = dict(type='GriddedMask', patch_size=4, ratio=1, fill=(0, 0, 255))
train_dataloader = dict(
    dataset=dict(
        type='ImageFolder',
        data_root={folder!r},
        pipeline=[
            dict(type='LoadImageFromFile'),
            corruption,
            dict(type='PackInputs', meta_keys=('sample_idx', 'corruption')),
        ],
    )
)
"""


@pytest.fixture
def config(tmp_path):
    """Of five red images of 30 x 40 pixels."""
    folder, path = tmp_path / 'images', tmp_path / 'config.py'
    folder.mkdir()
    for i in range(5):
        Image.new('RGB', (40, 30), (250, 0, 0)).save(folder / f'{i}.jpg', quality=95)
    path.write_text(CONFIG.format(folder=str(folder)))
    return str(path)


def test_browse_draws_pairs_from_the_loader(config, tmp_path, capsys):
    output = tmp_path / 'new' / 'pairs.png'
    load_tool(BROWSE).main([config, '--num', '4', '--output', str(output)])
    assert '4 of 5 images of the train set' in capsys.readouterr().out
    pixels = np.asarray(Image.open(output).convert('RGB')).reshape(-1, 3).astype(int)
    red = (np.abs(pixels - [250, 0, 0]) < 8).all(axis=1).mean()
    blue = (np.abs(pixels - [0, 0, 255]) < 8).all(axis=1).mean()
    assert red == pytest.approx(blue, rel=0.05)  # left half clean, right half blank: RGB restored
    assert red > 0.15


def test_browse_adds_the_noise_left_to_the_device(config):
    """The noisy image as the model sees it: red, moved to the mean."""
    cfg = Config.fromfile(config)
    noise = dict(type='GaussianNoise', gamma_range=(0.25, 0.25), on_device=True)
    cfg.train_dataloader.dataset.pipeline[1] = noise
    item = DATASETS.build(cfg.train_dataloader.dataset)[0]
    preprocessor = dict(
        type='RestorationDataPreprocessor', mean=[100, 60, 20], std=[1, 2, 3], to_rgb=True
    )
    clean, corrupted, name = load_tool(BROWSE).load_pair(item, preprocessor)
    assert name == 'GaussianNoise'
    np.testing.assert_allclose(clean.mean((0, 1)), [250, 0, 0], atol=4)
    expected = 0.5 * clean.mean((0, 1)) + 0.5 * np.array([100, 60, 20])
    np.testing.assert_allclose(corrupted.mean((0, 1)), expected, atol=0.5)
    noise = (corrupted - 0.5 * clean).std((0, 1))
    np.testing.assert_allclose(noise, 0.75**0.5 * np.array([1, 2, 3]), rtol=0.1)
