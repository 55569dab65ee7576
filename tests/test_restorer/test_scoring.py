"""The score of images: its parts, each against an independent computation."""

import numpy as np
import pytest
import torch
from PIL import Image

from mmebm.datasets import Picture
from mmebm.restorer import Restorer
from mmebm.restorer.scoring import LEVELS, level_features, score_images, scored_size, strangeness
from tests.zero_head import MEAN, SIZE, STD, save_network


@pytest.fixture(scope='module')
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp('network') / 'random.pth'
    save_network(path, zero=False, step_size=1.0)
    return Restorer(path, device='cpu')


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(12):
        pixels = rng.integers(0, 256, (SIZE, SIZE + i, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f'{i}.png')
    return sorted(tmp_path.glob('*.png'))


def test_features_of_one_tile_are_the_models_own(network):
    model = network.model
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    clean = ((torch.from_numpy(pixels[..., ::-1].copy()).permute(2, 0, 1) - mean) / std)[None]
    noise = np.random.default_rng(0).standard_normal((3, SIZE, SIZE), np.float32)
    expected = []
    for gamma in LEVELS:
        x = (gamma**0.5 * clean + (1 - gamma) ** 0.5 * torch.from_numpy(noise)).requires_grad_()
        energy = model.energy(x)
        (gradient,) = torch.autograd.grad(model.step_size * energy.sum(), x)
        error = model.restore(x.detach())[-1] - clean
        sizes = [part.square().mean().sqrt().log().item() for part in (gradient, error)]
        expected.append([sizes[0], energy.item(), sizes[1]])
    features = level_features(network, [pixels])
    np.testing.assert_allclose(features[0], np.ravel(expected, order='F'), rtol=1e-4)
    both = level_features(network, [pixels, np.hstack([pixels, pixels])])
    np.testing.assert_allclose(both[0], features[0])
    assert both.shape == (2, 3 * len(LEVELS))


def test_distance_and_p_value_by_hand():
    rng = np.random.default_rng(0)
    scales = np.array([1.0, 100.0])
    reference = rng.normal(size=(400, 2)) * scales + 5
    features = np.array([[0.0, 0.0], [3.0, 0.0], [3.0, 300.0], [0.0, 1000.0]]) + 5
    distances, p_values = strangeness(features, reference)
    expected = np.linalg.norm((features - 5) / scales, axis=1)
    np.testing.assert_allclose(distances, expected, rtol=0.1, atol=0.15)
    own, _ = strangeness(reference)
    np.testing.assert_allclose(p_values, [((own >= d).sum() + 1) / 401 for d in distances])
    assert p_values[3] == 1 / 401  # none of 400 is as strange

    outlier = np.vstack([reference, [[0.0, 2000.0]]])
    distances, p_values = strangeness(outlier)
    assert distances.argmax() == 400
    assert distances[400] > 15  # 20 deviations: compared with the others, not with itself
    np.testing.assert_allclose(np.sort(p_values), np.arange(1, 402) / 401)


def test_an_image_has_the_same_features_among_others(network, photos):
    found, problems = score_images(network, photos)
    assert (len(found), problems) == (12, [])
    for image in found:
        assert max(image.thumbnail.shape[:2]) == 160
        # noise cannot be compressed: 3 bytes per pixel, and little more
        assert image.bytes_per_pixel == pytest.approx(3, rel=0.15)
    (one,), _ = score_images(network, photos[:1], photos)
    (again,) = [image for image in found if image.path == one.path]
    np.testing.assert_array_equal(one.features, again.features)
    with pytest.raises(ValueError, match='9 images are too few to compare with'):
        score_images(network, photos[:9])


def test_an_image_is_scored_at_up_to_twice_the_networks_size():
    for size, short_side, expected in (
        ((100, 200), None, (32, 64)),
        ((20, 30), None, (20, 30)),
        ((8, 10), None, (16, 20)),
        ((100, 200), 50, (50, 100)),
    ):
        picture = Picture(np.zeros((*size, 3), np.uint8))
        assert scored_size(picture, 16, short_side).shape[:2] == expected
