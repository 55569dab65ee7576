"""``mmebm embed``: the features of each image under its name."""

import numpy as np
import pytest
import torch
from PIL import Image

from mmebm.cli.main import main as mmebm
from mmebm.evaluation.features import FeatureExtractor
from tests.zero_head import SIZE, save_network


@pytest.fixture
def network(tmp_path):
    save_network(tmp_path / 'net.pth', zero=False)
    return tmp_path / 'net.pth'


@pytest.fixture
def photos(tmp_path):
    """Two images of the network's size in nested folders, and a damaged one."""
    rng = np.random.default_rng(0)
    for name in ('a.png', 'below/b.png'):
        path = tmp_path / 'photos' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)).save(path)
    (tmp_path / 'photos' / 'broken.png').write_bytes(b'no image')
    return tmp_path / 'photos'


def test_features_of_each_image(network, photos, tmp_path, capsys):
    out = tmp_path / 'features.npz'
    argv = ['embed', str(network), str(photos), '--out', str(out), '--workers', '0']
    assert mmebm([*argv, '--device', 'cpu']) == 0
    said = capsys.readouterr()
    assert f'{out}: 2 images, 16 features each' in said.out
    assert 'broken.png' in said.err
    saved = np.load(out, allow_pickle=False)
    assert saved['names'].tolist() == ['a.png', 'below/b.png']
    extractor = FeatureExtractor(None, network, 'cpu')
    for name, row in zip(saved['names'], saved['features'], strict=True):
        pixels = np.asarray(Image.open(photos / name))[..., ::-1].transpose(2, 0, 1).copy()
        expected = extractor(dict(inputs=torch.from_numpy(pixels)[None]))[0]
        torch.testing.assert_close(torch.from_numpy(row), expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['features.npz', 'net.pth', 'photos']
