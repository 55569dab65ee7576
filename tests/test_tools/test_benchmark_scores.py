"""What the scores find: figures against counts by hand, and one small run."""

import csv

import numpy as np
import pytest
from PIL import Image

from tests.tools import exit_code, load_tool
from tests.zero_head import SIZE, save_network

TOOL = load_tool('benchmarks/benchmark_scores')


def test_figures_by_hand():
    found = TOOL.figures(np.array([0.0, 1.0, 3.0]), np.array([2.0, 4.0]))
    assert found['AUROC'] == pytest.approx(5 / 6)  # 2 > 0, 1; 4 > all
    # ranked 4, 3, 2, 1, 0: right at the first and the third place
    assert found['AP'] == pytest.approx((1 + 2 / 3) / 2)
    assert found['P@10'] == 0.5  # of the first two, one
    assert TOOL.figures(np.zeros(5), np.zeros(3))['P@10'] == 0


def test_damages_keep_the_size_and_change_the_image():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
    for name, damage in TOOL.DAMAGES.items():
        changed = damage(image)
        assert changed.shape == image.shape, name
        assert changed.dtype == np.uint8, name
        assert not np.array_equal(changed, image), name
    assert len(np.unique(TOOL.pixelated(image, 3)[:3, 18:], axis=1)) <= 3
    low = TOOL.contrast(image, 0.4)
    assert low.std() == pytest.approx(0.4 * image.std(), rel=0.02)
    assert low.mean() == pytest.approx(image.mean(), abs=0.5)


def test_a_square_of_a_file(tmp_path):
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 20:] = 90, 0, 200
    Image.fromarray(pixels).save(tmp_path / 'a.png')
    assert (TOOL.square(tmp_path / 'a.png', 5, 1.0, (0, 1)) == (200, 0, 90)).all()
    assert not TOOL.square(tmp_path / 'a.png', 20, 0.5, (0, 0)).any()


def test_scores_are_compared_with_known_images_or_with_each_other():
    rng = np.random.default_rng(0)
    one = {'features': rng.normal(size=(8, 4)), 'pixels': rng.random((8, 30))}
    one |= {name: rng.random(8) for name in ('energy', 'gradient', 'restoration')}
    one |= {name: rng.random(8) for name in ('file size', 'sharpness')}
    alone = TOOL.compared(one, None)
    assert (alone['knn'] > 0).all()
    expected = np.abs(one['energy'] - np.median(one['energy']))
    assert (np.argsort(alone['energy ±']) == np.argsort(expected)).all()
    with_itself = TOOL.compared(one, one | {'features': one['features'].repeat(5, 0)})
    np.testing.assert_allclose(with_itself['knn'], 0, atol=1e-6)


def test_a_batch_has_the_scores_of_its_images(tmp_path):
    save_network(tmp_path / 'net.pth', zero=False)
    score = TOOL.Scorer(TOOL.WholeImageRestorer(tmp_path / 'net.pth', device='cpu'), 2, seed=3)
    images = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    scores = score(list(images))
    for i, image in enumerate(images):
        one = score.of_picture(image)
        for name in ('energy', 'gradient', 'restoration', 'features'):
            np.testing.assert_allclose(scores[name][i], getattr(one, name), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_small_run(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for folder in ('ordinary', 'other'):
        (tmp_path / folder).mkdir()
        for i in range(6):
            pixels = rng.integers(0, 256, (SIZE, SIZE + i, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f'{i}.png')
    save_network(tmp_path / 'net.pth', zero=False)
    monkeypatch.setattr(TOOL, 'PATCHES', 2)
    argv = [str(tmp_path / 'net.pth'), str(tmp_path / 'ordinary'), '--out', str(tmp_path / 'out')]
    argv += ['--num', '2', '--reference', '2', '--corruptions', '1', '--seeds', '0', '1']
    assert TOOL.main([*argv, '--foreign', f'noise={tmp_path / "other"}']) == 0
    with open(tmp_path / 'out/scores.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    kinds = len(TOOL.DAMAGES) + 3  # foreign, digits, planted
    names = len(TOOL.NETWORK) + len(TOOL.BASELINES)
    assert len(rows) == kinds * names * 2
    for row in rows:
        assert all(0 <= float(row[name]) <= 1 for name in ('AUROC', 'AP', 'P@10')), row
    text = (tmp_path / 'out/scores.md').read_text()
    assert 'noise instead' in text
    assert '±' in text


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--num', '2', '--reference', '3'], 'holds 6 images'),
        (['--num', '1'], '--num'),
        (['--num', '2', '--reference', '2', '--foreign', 'x'], 'NAME=FOLDER'),
    ],
)
def test_mistakes_exit_with_2(tmp_path, capsys, options, message):
    for i in range(6):
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / f'{i}.png')
    assert exit_code(TOOL.main, ['none.pth', str(tmp_path), '--out', 'none', *options]) == 2
    assert message in capsys.readouterr().err
