"""Scores of images, each against an independent computation."""

import numpy as np
import pytest
import torch
from PIL import Image

from mmebm.apis import WholeImageRestorer, score_images, scoring
from mmebm.apis.picture_files import Picture
from mmebm.apis.scoring import corruption_series, deviation, knn_distance, scored_size
from mmebm.corruptions import MixedCorruption
from tests.zero_head import SIZE, save_network


@pytest.fixture(scope='module')
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp('network') / 'random.pth'
    save_network(path, zero=False)
    return WholeImageRestorer(path, device='cpu')


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    files = []
    for name, size in (('a.png', (SIZE, SIZE)), ('b.png', (40, 70)), ('c.jpg', (9, 30))):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(tmp_path / name)
        files.append(tmp_path / name)
    return files


def test_scores_of_one_tile_are_the_models_own(network, photos):
    (scores, *_), problems = score_images(network, photos, corruptions=3, seed=5)
    assert not problems
    model, pixels = network.model, np.asarray(Image.open(photos[0]))
    mean, std = (getattr(model.data_preprocessor, n).reshape(3, 1, 1) for n in ('mean', 'std'))
    x = ((torch.from_numpy(pixels.copy()).permute(2, 0, 1) - mean) / std)[None].requires_grad_()
    energy = model.energy(x)
    assert scores.energy == pytest.approx(energy.item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(model.step_size * energy.sum(), x)
    assert scores.gradient == pytest.approx(
        (gradient * std).square().mean().sqrt().item(), rel=1e-4
    )
    features = model.backbone(x)[-1][0].detach()  # (D,)
    np.testing.assert_allclose(scores.features, features, rtol=1e-4, atol=1e-5)
    assert (model.head.fc.weight[0] @ features).item() == pytest.approx(scores.energy, rel=1e-4)
    errors = []
    for k in range(3):
        corruption = MixedCorruption([network.corruption]).corruptions[0]
        bgr = np.ascontiguousarray(pixels[..., ::-1])
        corrupted = corruption.corrupt(bgr, np.random.default_rng([5, k]))
        start = torch.from_numpy(corrupted[..., ::-1].copy()).permute(2, 0, 1)
        restored = model.restore(((start - mean) / std)[None])[-1, 0] * std + mean
        errors.append((restored - pixels.transpose(2, 0, 1)).square().mean().sqrt().item())
    assert scores.restoration == pytest.approx(np.mean(errors), rel=1e-3)


def test_scores_of_every_size_are_finite_and_damaged_files_are_named(network, photos, tmp_path):
    (tmp_path / 'broken.jpg').write_text('no image')
    count = []
    found, problems = score_images(
        network, [*photos, tmp_path / 'broken.jpg'], 1, on_image=lambda: count.append(1)
    )
    assert [each.path for each in found] == photos
    assert len(problems) == 1
    assert 'broken.jpg' in problems[0]
    assert len(count) == 4
    for each in found:
        assert np.isfinite([getattr(each, name) for name in scoring.SCORES]).all()
        assert each.heat.min() >= 0
        assert max(each.thumbnail.shape[:2]) == 160


def test_a_score_not_requested_or_not_computable_is_nan(network, photos):
    (only,), _ = score_images(network, photos[:1], corruptions=0)
    assert np.isnan(only.restoration)
    assert np.isnan([only.knn, only.size]).all()
    (only,), _ = score_images(network, photos[:1], 0, reference=photos[1:])
    assert only.knn > 0


def same(a, b):
    values = [vars(each) for each in (a, b)]
    return all(np.array_equal(values[0][k], values[1][k], k != 'path') for k in values[0])


def test_what_is_kept_is_not_scored_again(network, photos, tmp_path, monkeypatch):
    options = dict(reference=photos[1:], kept=tmp_path / 'kept')
    first, _ = score_images(network, photos, 1, **options)
    plain, _ = score_images(network, photos, 1, reference=photos[1:])
    assert all(same(a, b) for a, b in zip(first, plain, strict=True))
    calls = []
    for name in ('score_picture', 'tile_features'):
        function = getattr(scoring, name)
        monkeypatch.setattr(
            scoring, name, lambda *args, f=function, n=name: (calls.append(n), f(*args))[1]
        )
    renamed = photos[2].rename(tmp_path / 'renamed.jpg')
    options['reference'] = [photos[1], renamed]
    again, _ = score_images(network, [*photos[:2], renamed], 1, **options)
    assert calls == []
    assert again[2].path == renamed
    again[2].path = photos[2]
    assert all(same(a, b) for a, b in zip(first, again, strict=True))

    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(photos[0])  # a changed image
    score_images(network, photos[:2], 1, kept=tmp_path / 'kept')
    assert calls.count('score_picture') == 1
    for changed in (
        dict(corruptions=0),
        dict(corruptions=1, seed=1),
        dict(corruptions=0, short_side=9),
    ):
        calls.clear()
        score_images(network, photos[:1], kept=tmp_path / 'kept', **changed)
        assert calls.count('score_picture') == 1, changed


def test_another_network_has_another_fingerprint(network):
    before = network.fingerprint()
    assert network.fingerprint() == before
    with torch.no_grad():
        network.model.head.fc.weight[0, 0] += 1
        changed = network.fingerprint()
        network.model.head.fc.weight[0, 0] -= 1
    assert changed != before


@pytest.mark.parametrize('bad', ['corruptions', 'seed', 'neighbours', 'short_side'])
def test_bad_options(network, photos, bad):
    with pytest.raises(ValueError, match=bad):
        score_images(network, photos, **{bad: -1})


def test_an_image_is_scored_at_up_to_twice_the_networks_size():
    def size(height, width, short_side=None):
        picture = Picture(np.zeros((height, width, 3), np.uint8))
        return scored_size(picture, (16, 16), short_side).shape[:2]

    assert size(100, 200) == (32, 64)
    assert size(20, 30) == (20, 30)
    assert size(8, 10) == (16, 20)
    assert size(100, 200, 50) == (50, 100)


def test_corruptions_of_a_mixture_take_turns():
    mixture = dict(
        type='MixedCorruption',
        corruptions=[dict(type='Colorization'), dict(type='SuperResolution', scale=2)],
    )
    names = [type(c).__name__ for c in corruption_series(mixture, 3)]
    assert names == ['Colorization', 'SuperResolution', 'Colorization']
    assert corruption_series(None, 0) == []
    with pytest.raises(ValueError, match='without a corruption'):
        corruption_series(None, 1)


def test_deviation_by_hand():
    values = np.array([1.0, 2.0, 4.0, 10.0, 3.0])  # median 3; distances 2, 1, 1, 7, 0: median 1
    np.testing.assert_allclose(deviation(values), [2, 1, 1, 7, 0])
    np.testing.assert_allclose(deviation(np.array([8.0]), values), [5])
    np.testing.assert_allclose(deviation(np.ones(4)), 0)
    assert np.isnan(deviation(np.ones(1))).all()


def test_size_is_that_of_a_png_file(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    # noise cannot be compressed: 3 bytes per pixel, and little more
    assert scoring.bytes_per_pixel(pixels) == pytest.approx(3, rel=0.06)
    assert scoring.bytes_per_pixel(np.zeros((20, 30, 3), np.uint8)) < 0.3


def test_knn_distance_against_all_pairs():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(12, 5)).astype(np.float32)
    features[3] = features[7]  # a copy is a neighbour; the image itself is not
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    distances = 1 - unit @ unit.T
    np.fill_diagonal(distances, np.inf)
    expected = np.sort(distances, axis=1)[:, :3].mean(1)
    np.testing.assert_allclose(knn_distance(features, None, 3), expected, atol=1e-5)
    known = rng.normal(size=(4, 5)).astype(np.float32)
    unit_known = known / np.linalg.norm(known, axis=1, keepdims=True)
    expected = np.sort(1 - unit @ unit_known.T, axis=1)[:, :2].mean(1)
    np.testing.assert_allclose(knn_distance(features, known, 2), expected, atol=1e-5)
    np.testing.assert_allclose(
        knn_distance(features, known, 9), (1 - unit @ unit_known.T).mean(1), atol=1e-5
    )
