"""``mmebm score``: a table and a page of ranked images."""

import csv
import html

import numpy as np
import pytest
from PIL import Image

from mmebm.cli.main import main
from tests.browser import assert_sound, look_at
from tests.tools import exit_code
from tests.zero_head import SIZE, save_network

HOSTILE = '<script>alert(1)<&\udce9.png'  # and no UTF-8


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('scores')
    rng = np.random.default_rng(0)
    (folder / 'photos').mkdir()
    for name in (*(f'{i}.png' for i in range(11)), HOSTILE):
        pixels = rng.integers(0, 256, (SIZE, SIZE + 5, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / 'photos' / name)
    (folder / 'photos/broken.jpg').write_text('no image')
    save_network(folder / 'net.pth', zero=False, step_size=1.0)
    return folder


def score(folder, *options):
    argv = ['score', str(folder / 'net.pth'), str(folder / 'photos'), '--out', str(folder / 'out')]
    return [*argv, *options]


def test_table_and_page(folder, capsys):
    assert main(score(folder, '--top', '5', '--threshold', '0.25')) == 0
    captured = capsys.readouterr()
    assert 'broken.jpg' in captured.err
    assert '12 scored, 3 of them strange' in captured.out
    with open(folder / 'out/scores.csv', newline='', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    assert [row['rank'] for row in rows] == [str(n) for n in range(1, 13)]
    assert [row['label'] for row in rows] == ['strange'] * 3 + ['ordinary'] * 9
    scores = [float(row['score']) for row in rows]
    assert scores == sorted(scores, reverse=True)
    page = (folder / 'out/scores.html').read_text(encoding='utf-8')
    assert '<script' not in page
    assert HOSTILE.replace('\udce9', '\\udce9') in {row['image'] for row in rows}
    for row in [*rows[:5], *rows[-5:]]:
        assert f'<bdi>{html.escape(row["image"])}</bdi>' in page
    assert page.count('src="data:image/') == 2 * 10  # each end, picture and map
    assert_sound(look_at(folder / 'out/scores.html'))


def test_against_a_reference(folder):
    assert main(score(folder, '--reference', str(folder / 'photos'), '--top', '20')) == 0
    with open(folder / 'out/scores.csv', newline='', encoding='utf-8') as file:
        assert all(0 < float(row['p_value']) <= 1 for row in csv.DictReader(file))
    assert 'Most ordinary' not in (folder / 'out/scores.html').read_text(encoding='utf-8')


def test_one_image_needs_a_reference(folder, capsys):
    argv = score(folder)
    argv[2] = str(folder / 'photos/1.png')
    assert exit_code(main, argv) == 2
    assert '--reference' in capsys.readouterr().err
    assert main([*argv, '--reference', str(folder / 'photos')]) == 0
    argv[2] = str(folder / 'photos/broken.jpg')
    assert main([*argv, '--reference', str(folder / 'photos')]) == 1
