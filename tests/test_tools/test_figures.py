"""``tools/visualization/figures.py``: what it reads, and that it draws it."""

import pytest
from PIL import Image

from mmebm.utils.tables import write_csv
from tests.tools import load_tool, write_images
from tests.zero_head import save_network

figures = load_tool('visualization/figures')
COLUMNS = ('method', 'seed', 'split', 'protocol', 'accuracy', 'pretraining_epochs')


def curves(draw, *argv):
    """The points of each line of a figure."""
    (axes,) = draw(figures.parse_args([*map(str, argv)])).axes
    return [list(zip(*map(list, line.get_data()), strict=True)) for line in axes.lines], axes


def test_figure_a_from_benchmarks(tmp_path):
    """Test images, the protocol asked for, the longest pretraining, all seeds; in order of N."""
    for n in (0, 2, 10):
        rows = [('energy-sr4', s, 'test', 'knn', 50 + n + 2 * s, 40) for s in range(2)]
        rows += [('energy-sr4', 0, 'test', 'knn', 1, 20), ('energy-sr4', 0, 'val', 'knn', 2, 40)]
        rows += [('energy-sr4', 0, 'test', 'probe', 3, 40), ('scratch', 0, 'test', 'knn', 4, 0)]
        (tmp_path / f'n{n}').mkdir()
        rows = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
        write_csv(rows, tmp_path / f'n{n}/results.csv')
    (points,), axes = curves(figures.figure_a, 'A', tmp_path, '--protocol', 'knn')
    assert points == [(0, 51), (2, 53), (10, 61)]
    bars = axes.collections[0].get_segments()
    assert bars[0][:, 1] == pytest.approx([51 - 2**0.5, 51 + 2**0.5])


def test_figure_1(tmp_path):
    network, photos = tmp_path / 'net.pth', tmp_path / 'photos'
    save_network(network, zero=True)
    write_images(photos, 3)
    output = tmp_path / 'new' / 'chains.png'
    argv = ['1', str(network), str(photos), '--num', '2', '--num-steps', '2']
    assert figures.main([*argv, '--output', str(output)]) == 0
    assert Image.open(output).size[0] > 4 * 150  # original, corrupted, two steps
