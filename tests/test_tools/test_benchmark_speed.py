"""The speed benchmark on a tiny network: what it computes, not how fast."""

import csv
import json

import pytest
from PIL import Image

from tests.tools import load_tool

benchmark = load_tool('benchmarks/benchmark_speed')


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    vit = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=128)
    swin = dict(embed_dims=8, depths=[2, 1, 1, 1], num_heads=[1, 1, 2, 2])
    for name, arch in {'vit-tiny': vit, 'swin-tiny': swin}.items():
        monkeypatch.setitem(benchmark.BACKBONES, name, dict(benchmark.BACKBONES[name], arch=arch))
    monkeypatch.setattr(benchmark, 'SIDE', 256)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('model', 'steps'),
    [
        ('vit-tiny', ['supervised', 'Listing 1', 'ours', 'MAE', 'BEiT']),
        ('swin-tiny', ['supervised', 'ours', 'SimMIM']),
    ],
)
def test_a_row_for_each_step(model, steps, tmp_path):
    options = ['--image-size', '32', '--batch-size', '1', '--repeats', '2', '--device', 'cpu']
    options += ['--precisions', 'float32', '--models', model, '--out', str(tmp_path)]
    assert benchmark.main([*options, '--steps', *steps]) == 0
    with open(tmp_path / 'speed.csv', newline='') as file:
        rows = {row['step']: row for row in csv.DictReader(file)}
    assert list(rows) == steps
    assert all(float(row['images_per_second']) > 0 for row in rows.values())
    assert all(float(row['megabytes']) > 0 for row in rows.values())
    ours, supervised = rows['ours'], rows['supervised']
    ratio = float(ours['milliseconds']) / float(supervised['milliseconds'])
    assert float(ours['of_supervised']) == pytest.approx(ratio)
    assert float(ours['of_floor']) == pytest.approx(ratio / 4)  # N = 2
    assert supervised['of_floor'] == ''
    # by the count of operations, ours does 12 F in its time, a supervised step 3 F in its own
    share = float(ours['of_product']) / float(supervised['of_product'])
    assert share == pytest.approx(4 / ratio)
    if 'Listing 1' in steps:
        listing = rows['Listing 1']
        memory = float(ours['megabytes']) / float(listing['megabytes'])
        assert float(ours['memory_of_listing_1']) == pytest.approx(memory)
        ratio = float(ours['milliseconds']) / float(listing['milliseconds'])
        assert float(ours['of_listing_1']) == pytest.approx(ratio)
    assert [
        row['step'] for row in json.loads((tmp_path / 'speed.json').read_text())['rows']
    ] == steps
    assert all(step in (tmp_path / 'speed.md').read_text() for step in steps)
    assert Image.open(tmp_path / 'speed.png').size[0] > 500


def test_a_mode_that_computes_something_else_is_refused():
    losses = {('Listing 1', 'float32'): 0.5, ('ours', 'float32'): 0.50001}
    benchmark.check_losses(losses)
    losses['ours, compiled', 'float32'] = 0.51
    with pytest.raises(RuntimeError, match=r'ours, compiled in float32 computed a loss of 0.51'):
        benchmark.check_losses(losses)


def test_operations_are_counted():
    args = benchmark.parse_args(['--image-size', '32', '--batch-size', '3'])
    tokens, width, layers = 5, 32, 2
    layer = tokens * 12 * width**2 + 2 * tokens**2 * width  # linear layers and attention
    patches = 4 * 3 * 16**2 * width
    counted = benchmark.Bench('vit-tiny', args).forward_flops
    assert counted == 3 * 2 * (layers * layer + patches)


def test_wrong_options_are_named(capsys):
    with pytest.raises(SystemExit):
        benchmark.parse_args(['--repeats', '0'])
    assert '--repeats must be ≥ 1, got 0' in capsys.readouterr().err
