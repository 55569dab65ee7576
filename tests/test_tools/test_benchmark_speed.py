"""The speed benchmark on a tiny network: what it computes, not how fast."""

import csv
from argparse import Namespace

import pytest

from tests.tools import load_tool

benchmark = load_tool('benchmarks/benchmark_speed')


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    vit = dict(embed_dims=64, num_layers=2, num_heads=2, feedforward_channels=256)
    backbone = dict(benchmark.BACKBONES['vit-tiny'], arch=vit)
    monkeypatch.setitem(benchmark.BACKBONES, 'vit-tiny', backbone)


@pytest.mark.slow
def test_a_row_for_each_step(tmp_path):
    steps = ['supervised', 'Listing 1', 'ours', 'MAE']
    options = ['--image-size', '32', '--batch-size', '2', '8', '--num-steps', '2', '4']
    options += ['--precisions', 'float32', '--models', 'vit-tiny', '--repeats', '1']
    out = tmp_path / 'new' / 'speed.csv'
    argv = [*options, '--device', 'cpu', '--out', str(out), '--steps', *steps]
    assert benchmark.main(argv) == 0
    with open(out, newline='') as file:
        rows = {(r['batch'], r['N'], r['step']): r for r in csv.DictReader(file)}
    assert len(rows) == 2 * 2 * len(steps)
    for (batch, n, step), row in rows.items():
        for other in ('supervised', 'Listing 1'):
            ms = float(row['milliseconds']) / float(rows[batch, n, other]['milliseconds'])
            assert float(row[f'of_{other.lower().replace(" ", "_")}']) == pytest.approx(ms), step

    def per_image(step, n):
        memory = [float(rows[batch, n, step]['megabytes']) for batch in ('2', '8')]
        return memory[1] - memory[0]

    assert per_image('ours', '4') == pytest.approx(per_image('ours', '2'), rel=0.1)
    assert per_image('Listing 1', '4') > 1.7 * per_image('Listing 1', '2')


def test_a_step_that_computes_something_else_is_refused(monkeypatch):
    monkeypatch.setattr(benchmark, 'listing_1', lambda model, x, clean: 2 * model.energy(x).sum())
    args = Namespace(device='cpu', image_size=32, steps=['Listing 1', 'ours'], repeats=1)
    args.precisions = ['float32']
    with pytest.raises(RuntimeError, match='ours, float32: loss'):
        benchmark.measure('vit-tiny', 1, 2, args)
