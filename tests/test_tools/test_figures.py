"""``tools/visualization/figures.py``: what it reads, and that it draws it."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from tests.campaign.runs import write_images
from tests.tools import load_tool
from tests.zero_head import SIZE, save_network

figures = load_tool('visualization/figures')
COLUMNS = ('method', 'seed', 'split', 'protocol', 'accuracy', 'pretraining_epochs')


def write_results(folder, *rows):
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / 'results.csv', 'w', newline='') as file:
        csv.writer(file).writerows([COLUMNS, *rows])


def write_log(work_dir, *lines):
    folder = work_dir / '20260101_000000' / 'vis_data'
    folder.mkdir(parents=True)
    (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)) + '\n')


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
        write_results(tmp_path / f'n{n}', *rows)
    (points,), axes = curves(figures.figure_a, 'A', tmp_path, '--protocol', 'knn')
    assert points == [(0, 51), (2, 53), (10, 61)]
    bars = axes.collections[0].get_segments()
    assert bars[0][:, 1] == pytest.approx([51 - 2**0.5, 51 + 2**0.5])


def test_figure_a_from_finetuned_runs(tmp_path):
    """The last validation counts; runs that are not validated yet are left out."""
    for n, values in ((2, [79.7]), (1, [70.0, 79.1]), (3, [])):
        lines = [{'accuracy/top1': value, 'step': i} for i, value in enumerate(values)]
        write_log(tmp_path / f'large-{n}/finetuning', dict(loss=2.0, iter=10, step=10), *lines)
    assert curves(figures.figure_a, 'A', tmp_path)[0] == [[(1, 79.1), (2, 79.7)]]


def test_figure_b_is_what_was_logged(tmp_path):
    write_log(
        tmp_path,
        dict(loss=0.5, distance_step0=0.4, iter=10, step=10),
        {'restoration/psnr': 20.0, 'step': 1},
        dict(loss=0.3, distance_step0=0.45, iter=20, step=20),
    )
    lines, _ = curves(figures.figure_b, 'B', tmp_path)
    assert lines == [[(10, 0.5), (20, 0.3)], [(10, 0.4), (20, 0.45)]]


@pytest.fixture(scope='module')
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp('network') / 'net.pth'
    save_network(path, zero=True)
    return path


@pytest.fixture
def photos(tmp_path):
    write_images(tmp_path / 'photos', 3)
    return tmp_path / 'photos'


def test_figure_1(network, photos, tmp_path):
    output = tmp_path / 'new' / 'chains.png'
    argv = ['1', str(network), str(photos), '--num', '2', '--num-steps', '2']
    assert figures.main([*argv, '--output', str(output)]) == 0
    assert Image.open(output).size[0] > 4 * 150  # original, corrupted, two steps


def test_figure_3_shows_every_corruption_of_the_paper(network, photos, tmp_path):
    """With a zero head nothing is restored, except by the other network for one corruption."""
    save_network(tmp_path / 'other.pth', zero=False)
    argv = ['3', str(network), str(photos), '--scale', '0.25']
    argv += ['--network', f'Colorization={tmp_path}/other.pth']
    chains = figures.figure_3(figures.parse_args([*argv, '--num', '1']))
    titles = [chain.title for chain in chains]
    assert titles[::2] == ['gridded, 4 pixels', 'random large', 'super-resolution 3×', 'denoising']
    for chain in chains:
        assert chain.clean.shape == (SIZE, SIZE, 3)
        assert np.array_equal(chain.clean, chains[0].clean)
        corrupted, restored = chain.images
        assert np.array_equal(corrupted, restored) == (chain.title != 'colorization')
