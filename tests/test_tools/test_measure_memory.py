"""The memory table on a tiny network."""

import csv

import pytest

from tests.tools import FOLDER, load_tool


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER / 'benchmarks')  # it imports benchmark_speed
    tool = load_tool('benchmarks/measure_memory')
    arch = dict(embed_dims=64, num_layers=2, num_heads=2, feedforward_channels=256)
    monkeypatch.setitem(tool.BACKBONES, 'vit-tiny', dict(tool.BACKBONES['vit-tiny'], arch=arch))
    return tool


@pytest.mark.slow
def test_a_row_for_each_precision_and_n(tool, tmp_path):
    options = ['--models', 'vit-tiny', '--image-size', '32', '--device', 'cpu']
    options += ['--batch-sizes', '2', '8', '--num-steps', '2', '4', '--precisions', 'float32']
    assert tool.main([*options, '--out', str(tmp_path)]) == 0
    with open(tmp_path / 'memory.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert [(row['precision'], row['N']) for row in rows] == [('float32', '2'), ('float32', '4')]
    two, four = ({k: float(v) for k, v in list(row.items())[2:]} for row in rows)
    for row in (two, four):
        for kind in tool.KINDS:
            line = row[f'{kind}, fixed'] + 8 * row[f'{kind}, per image']
            assert line == pytest.approx(row[f'{kind}, batch 8'], rel=1e-6)
    assert four['ours, per image'] == pytest.approx(two['ours, per image'], rel=0.1)
    assert four['Listing 1, per image'] > 1.7 * two['Listing 1, per image']
    assert len((tmp_path / 'memory.md').read_text().splitlines()) == 2 + 2 + 2


def test_one_batch_size_gives_no_line(tool, capsys):
    with pytest.raises(SystemExit):
        tool.main(['--batch-sizes', '4'])
    assert '--batch-sizes needs at least two different numbers' in capsys.readouterr().err
