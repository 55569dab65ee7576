"""``mmebm embed``: the features of each image under its name."""

import numpy as np
import torch
from PIL import Image

from mmebm.cli.main import main as mmebm
from mmebm.evaluation.features import FeatureExtractor
from tests.tools import write_images
from tests.zero_head import SIZE, save_network


def test_features_of_each_image(tmp_path, capsys):
    """Two images of the network's size in nested folders, and a damaged one."""
    network, photos = tmp_path / 'net.pth', tmp_path / 'photos'
    save_network(network, zero=False)
    for seed, folder in enumerate((photos, photos / 'below')):
        write_images(folder, 1, side=SIZE, seed=seed)
    (photos / 'broken.png').write_bytes(b'no image')
    out = tmp_path / 'features.npz'
    argv = ['embed', str(network), str(photos), '--out', str(out), '--workers', '0']
    assert mmebm([*argv, '--device', 'cpu']) == 0
    said = capsys.readouterr()
    assert f'{out}: 2 images, 16 features each' in said.out
    assert 'broken.png' in said.err
    saved = np.load(out, allow_pickle=False)
    assert saved['names'].tolist() == ['0000.png', 'below/0000.png']
    extractor = FeatureExtractor(None, network, 'cpu')
    for name, row in zip(saved['names'], saved['features'], strict=True):
        pixels = np.asarray(Image.open(photos / name))[..., ::-1].transpose(2, 0, 1).copy()
        expected = extractor(dict(inputs=torch.from_numpy(pixels)[None]))[0]
        torch.testing.assert_close(torch.from_numpy(row), expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['features.npz', 'net.pth', 'photos']
