"""``tools/visualization/figures.py``: what it reads, and that it draws it."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from tests.tools import exit_code, load_tool
from tests.zero_head import SIZE, save_network

figures = load_tool('visualization/figures')

COLUMNS = ('method', 'seed', 'split', 'protocol', 'accuracy', 'pretraining_epochs')


def write_results(folder, *rows):
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / 'results.csv', 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerows([COLUMNS, *rows])


def write_log(work_dir, *lines):
    folder = work_dir / '20260101_000000' / 'vis_data'
    folder.mkdir(parents=True)
    (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)) + '\n')


def drawn(*argv):
    """The axes of a figure."""
    args = figures.parse_args([*map(str, argv)])
    (axes,) = figures.DRAW[args.figure](args).axes
    return axes


def curve(axes, label):
    """The points of a labelled curve, with their error bars' length if there are any."""
    handles, labels = axes.get_legend_handles_labels()
    line = handles[labels.index(label)]
    if hasattr(line, 'lines'):  # of an errorbar
        line = line.lines[0]
    return list(zip(*map(list, line.get_data()), strict=True))


# --- accuracies


def test_accuracies_of_a_benchmark(tmp_path):
    """Test images only, the protocol asked for, the longest pretraining, all seeds."""
    write_results(
        tmp_path,
        ('mae', 0, 'test', 'knn', 30, 10),
        ('mae', 0, 'test', 'knn', 40, 20),
        ('mae', 1, 'test', 'knn', 42, 20),
        ('mae', 0, 'val', 'knn', 99, 20),
        ('mae', 0, 'test', 'finetune', 60, 20),
        ('scratch', 0, 'test', 'knn', 25, 0),
    )
    expected = {'mae': [40.0, 42.0], 'scratch': [25.0]}
    assert figures.read_accuracies(tmp_path, 'knn') == expected
    assert figures.read_accuracies(tmp_path / 'results.csv', 'knn') == expected
    with pytest.raises(ValueError, match='no accuracy by probe'):
        figures.read_accuracies(tmp_path, 'probe')


def test_a_benchmark_is_drawn(tmp_path):
    """As the benchmark itself draws it: means over the seeds against hours."""
    with open(tmp_path / 'results.csv', 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, 'pretraining_cpu_s'])
        writer.writerow(['mae', 0, 'test', 'knn', 40, 20, 3600])
        writer.writerow(['mae', 1, 'test', 'knn', 42, 20, 7200])
        writer.writerow(['mae', 0, 'val', 'knn', 99, 20, 3600])
        writer.writerow(['scratch', 0, 'test', 'knn', 25, 0, 0])
    axes = drawn('benchmark', tmp_path / 'results.csv')
    assert curve(axes, 'mae') == [(1.5, 41.0)]
    (_, level) = curve(axes, 'scratch')[0]
    assert level == 25.0


def test_accuracies_of_finetuned_rows(tmp_path):
    """The last validation counts; rows that are not validated yet are left out."""
    write_log(
        tmp_path / 'gridded16-10/finetuning',
        dict(loss=2.0, iter=10, step=10),
        {'accuracy/top1': 70.0, 'step': 1},
        {'accuracy/top1': 76.5, 'step': 2},
    )
    write_log(tmp_path / 'gridded16-30/finetuning', dict(loss=2.0, iter=10, step=10))
    assert figures.read_accuracies(tmp_path, 'finetune') == {'gridded16-10': [76.5]}
    with pytest.raises(FileNotFoundError, match=r'neither a results\.csv nor'):
        figures.read_accuracies(tmp_path / 'gridded16-10', 'finetune')


def test_figure_a_orders_by_number_and_shows_the_spread(tmp_path):
    for n in (0, 2, 10):
        rows = [
            ('energy-sr4', seed, 'test', 'finetune', 50 + n + 2 * seed, 40) for seed in range(2)
        ]
        write_results(tmp_path / f'n{n}', *rows, ('scratch', 0, 'test', 'finetune', 20, 0))
    axes = drawn('A', tmp_path)
    assert curve(axes, 'finetune') == [(0, 51), (2, 53), (10, 61)]
    bars = axes.collections[0].get_segments()
    assert bars[0][:, 1] == pytest.approx([51 - 2**0.5, 51 + 2**0.5])


def test_figure_a_from_runs_on_imagenet(tmp_path):
    for n, value in ((1, 79.1), (2, 79.7)):
        log = {'accuracy/top1': value, 'step': 100}
        write_log(tmp_path / f'random-large-{n}' / 'finetuning', log)
    assert curve(drawn('A', tmp_path), 'finetune') == [(1, 79.1), (2, 79.7)]


def test_figure_b_is_what_was_logged(tmp_path):
    write_log(
        tmp_path,
        dict(loss=0.5, distance_step0=0.4, iter=10, step=10),
        {'restoration/psnr': 20.0, 'step': 1},
        dict(loss=0.3, distance_step0=0.45, iter=20, step=20),
    )
    axes = drawn('B', tmp_path)
    assert curve(axes, 'loss') == [(10, 0.5), (20, 0.3)]
    assert curve(axes, 'of the corrupted images themselves') == [(10, 0.4), (20, 0.45)]


def test_tables_of_a_benchmark(tmp_path):
    write_results(
        tmp_path,
        *((f'energy-gridded4-{s}', 0, 'test', 'finetune', s, 40) for s in (70, 10)),
        ('energy-gridded8-50', 0, 'test', 'finetune', 33, 40),
        ('energy-sr4', 0, 'test', 'finetune', 44, 40),
        ('ae-sr4', 0, 'test', 'finetune', 11, 40),
    )
    axes = drawn('table1', tmp_path)
    assert curve(axes, 'cells of 4 pixels') == [(10, 10), (70, 70)]
    assert curve(axes, 'cells of 8 pixels') == [(50, 33)]
    axes = drawn('table2', tmp_path / 'results.csv')
    assert curve(axes, 'super-resolution') == [(4, 44)]
    assert [y for _, y in curve(axes, 'ae-sr4: 11.0')] == [11, 11]


def test_tables_of_the_paper():
    axes = drawn('table1')
    assert curve(axes, 'cells of 24 pixels')[3] == (70, 79.2)
    assert curve(drawn('table2'), 'super-resolution')[2] == (16, 79.6)


# --- pictures


@pytest.fixture(scope='module')
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp('network') / 'net.pth'
    save_network(path, zero=True)
    return path


@pytest.fixture
def photos(tmp_path):
    (tmp_path / 'photos').mkdir()
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f'photos/{i}.png')
    return tmp_path / 'photos'


def test_figure_1(network, photos, tmp_path, capsys):
    output = tmp_path / 'new' / 'chains.png'
    argv = ['1', str(network), str(photos), '--num', '2', '--num-steps', '2']
    assert figures.main([*argv, '--output', str(output)]) == 0
    assert str(output) in capsys.readouterr().out
    assert Image.open(output).size[0] > 4 * 150  # original, corrupted, two steps


def test_figure_3_shows_every_corruption_of_the_paper(network, photos):
    args = figures.parse_args(['3', str(network), str(photos), '--scale', '0.25'])
    figure = figures.figure_3(args)
    titles = [block.get_suptitle() for block in figure.subfigs]
    assert titles == [
        'gridded, 4 pixels',
        'gridded, 8 pixels',
        'random large',
        'random small',
        'super-resolution 3×',
        'super-resolution 4×',
        'denoising',
        'colorization',
    ]
    for block in figure.subfigs:
        pictures = [axis.images[0].get_array() for axis in block.axes]
        assert len(pictures) == 2 * 3
        for corrupted, original, restored in zip(*[iter(pictures)] * 3, strict=True):
            assert original.shape == (SIZE, SIZE, 3)
            assert not np.array_equal(corrupted, original)
            np.testing.assert_array_equal(corrupted, restored)  # by a head of zeros


def test_figure_3_takes_another_network_for_a_corruption(network, photos, tmp_path):
    save_network(tmp_path / 'other.pth', zero=False)
    argv = ['3', str(network), str(photos), '--num', '1', '--scale', '0.25', '--network']
    args = figures.parse_args([*argv, f'Colorization={tmp_path / "other.pth"}'])
    figure = figures.figure_3(args)
    for block in figure.subfigs:
        corrupted, _, restored = (axis.images[0].get_array() for axis in block.axes)
        same = np.array_equal(corrupted, restored)
        assert same == (block.get_suptitle() != 'colorization')


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        (['3', 'NET', 'PHOTOS', '--scale', '0'], '--scale must be > 0, got 0.0'),
        (['3', 'NET', 'PHOTOS', '--network', 'x'], "--network takes NAME=CHECKPOINT, got 'x'"),
        (['3', 'NET', 'PHOTOS', '--network', 'Fog=NET'], "['Fog'], which Figure 3 does not have"),
        (['1', 'NET', 'PHOTOS', '--num', '0'], '--num must be ≥ 1, got 0'),
        (['1', 'NET', 'nowhere'], 'nowhere'),
        (['A', 'PHOTOS'], 'no sub-folder whose name ends in N'),
        (['B', 'PHOTOS'], 'no TIME/vis_data/scalars.json'),
        (['table1', 'PHOTOS'], 'neither a results.csv nor'),
        (['benchmark', 'nowhere'], 'nowhere'),
    ],
)
def test_mistakes_are_named(argv, message, network, photos, tmp_path, capsys):
    output = tmp_path / 'out.png'
    argv = [a.replace('NET', str(network)).replace('PHOTOS', str(photos)) for a in argv]
    assert exit_code(figures.main, [*argv, '--output', str(output)]) == 2
    assert message in capsys.readouterr().err
    assert not output.exists()
