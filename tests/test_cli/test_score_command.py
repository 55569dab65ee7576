"""``mmebm score``: a table and a page of ranked images."""

import csv
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from mmebm.apis import scoring
from mmebm.cli.main import main
from mmebm.visualization.score_page import RankedImage, overlay, rank, score_page
from tests.tools import exit_code
from tests.zero_head import SIZE, save_network


class Parsed(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], ''
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    photos = tmp_path / 'photos'
    photos.mkdir()
    for name in ('a.png', 'b.png', '<script>alert(1)<&.png'):
        pixels = rng.integers(0, 256, (SIZE, SIZE + 5, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / name)
    (photos / 'broken.jpg').write_text('no image')
    save_network(tmp_path / 'net.pth', zero=False)
    return tmp_path


def test_table_and_page(folder, capsys):
    argv = ['score', str(folder / 'net.pth'), str(folder / 'photos'), '--out', str(folder / 'out')]
    assert main([*argv, '--corruptions', '1', '--top', '2', '--rank-by', 'energy']) == 0
    assert 'broken.jpg' in capsys.readouterr().err
    with open(folder / 'out/scores.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert [row['rank'] for row in rows] == ['1', '2', '3']
    energies = [float(row['energy']) for row in rows]
    assert energies == sorted(energies, reverse=True)
    page = (folder / 'out/scores.html').read_text()
    parsed = Parsed(page)
    assert '<script' not in page
    assert '<script>alert(1)<&.png' in parsed.text
    sources = [attrs['src'] for tag, attrs in parsed.tags if tag == 'img']
    assert len(sources) == 5 * 3 * 2  # scores, images, picture and heat map
    prefixes = ('data:image/jpeg;base64,', 'data:image/png;base64,')
    assert all(source.startswith(prefixes) for source in sources)
    assert not re.search('https?://', page)


def test_an_interrupted_ranking_goes_on(folder, monkeypatch):
    argv = ['score', str(folder / 'net.pth'), str(folder / 'photos'), '--out', str(folder / 'out')]
    argv += ['--corruptions', '0']
    score_picture, calls = scoring.score_picture, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return score_picture(*args)

    monkeypatch.setattr(scoring, 'score_picture', interrupted)
    assert exit_code(main, argv) not in (0, 2)
    assert not (folder / 'out/scores.csv').exists()
    assert main(argv) == 0
    assert len(calls) == 2 + 2  # one of three images was done; the broken one is none
    with open(folder / 'out/scores.csv', newline='') as file:
        assert len(list(csv.DictReader(file))) == 3


def test_the_default_ranking_is_by_size(folder):
    argv = ['score', str(folder / 'net.pth'), str(folder / 'photos'), '--out', str(folder / 'out')]
    assert main([*argv, '--corruptions', '0']) == 0
    with open(folder / 'out/scores.csv', newline='') as file:
        sizes = [float(row['size']) for row in csv.DictReader(file)]
    assert sizes == sorted(sizes, reverse=True)
    assert 'By restoration' not in (folder / 'out/scores.html').read_text()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--top', '0'], '--top'),
        (['--corruptions', '-1'], 'corruptions'),
        (['--rank-by', 'restoration', '--corruptions', '0'], '--corruptions'),
        (['--reference', 'none'], 'none'),
    ],
)
def test_mistakes_exit_with_2(folder, capsys, options, message):
    argv = ['score', str(folder / 'net.pth'), str(folder / 'photos'), '--out', str(folder / 'out')]
    assert exit_code(main, [*argv, *options]) == 2
    assert message in capsys.readouterr().err


def test_only_damaged_files(folder):
    broken = str(folder / 'photos/broken.jpg')
    argv = ['score', str(folder / 'net.pth'), broken, '--out', str(folder / 'out')]
    assert main([*argv, '--rank-by', 'energy']) == 1
    assert not (folder / 'out').exists()


def test_one_image_has_no_neighbours(folder, capsys):
    argv = ['score', str(folder / 'net.pth'), str(folder / 'photos/a.png'), '--out']
    assert exit_code(main, [*argv, str(folder / 'out')]) == 2
    assert '--reference' in capsys.readouterr().err
    assert main([*argv, str(folder / 'out'), '--reference', str(folder / 'photos')]) == 0


def ranked_images(values):
    image = np.zeros((4, 6, 3), np.uint8)
    return [
        RankedImage(str(i), dict(energy=value), image, np.zeros((4, 6)))
        for i, value in enumerate(values)
    ]


def test_the_strangest_image_comes_first_after_those_without_a_finite_score():
    names = [image.name for image in rank(ranked_images([1, 3, np.nan, 2]), 'energy')]
    assert names == ['2', '1', '3', '0']


def test_no_image_is_at_both_ends():
    page = Parsed(score_page(ranked_images([1, 2, 3]), dict(energy='E'), 'energy', top=2))
    assert len([1 for tag, _ in page.tags if tag == 'figure']) == 3


def test_heat_is_bright_where_it_is_high():
    heat = np.zeros((8, 8))
    heat[2, 3] = 1
    shown = overlay(np.full((8, 8, 3), 100, np.uint8), heat, 1.0).astype(int).sum(2)
    assert np.unravel_index(shown.argmax(), shown.shape) == (2, 3)
