"""What the score finds: its damages, and one small run."""

import csv

import numpy as np
from PIL import Image

from tests.tools import exit_code, load_tool
from tests.zero_head import SIZE, save_network

TOOL = load_tool('benchmarks/benchmark_scores')


def test_a_small_run(tmp_path, capsys):
    rng = np.random.default_rng(0)
    (tmp_path / 'photos').mkdir()
    for i in range(20):
        pixels = rng.integers(0, 256, (SIZE, SIZE + 5, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f'photos/{i}.png')
    save_network(tmp_path / 'net.pth', zero=False, step_size=1.0)
    table = tmp_path / 'out.csv'
    argv = [str(tmp_path / 'net.pth'), str(tmp_path / 'photos'), '--out', str(table)]
    argv += ['--num', '4', '--reference', '10', '--seeds', '0', '1']
    assert TOOL.main([*argv, '--foreign', f'other={tmp_path / "photos"}']) == 0
    with open(table, newline='', encoding='utf-8') as file:
        rows = {row['strange']: row for row in csv.DictReader(file)}
    assert set(rows) == {*TOOL.DAMAGES, 'other', "scikit-learn's digits", 'mean'}
    assert all(len(row) == 3 + 3 * len(TOOL.LEVELS) for row in rows.values())
    assert float(rows['blocks of 3 × 3']['PNG size']) == 1  # noise in blocks is small
    assert exit_code(TOOL.main, [*argv, '--foreign', 'other']) == 2
    assert 'NAME=FOLDER' in capsys.readouterr().err
    assert exit_code(TOOL.main, [*argv, '--num', '40']) == 2
    assert '20 images' in capsys.readouterr().err
