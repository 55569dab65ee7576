"""The page of a benchmark: averages, the best of each column, and how a browser sees it."""

import re
from math import nan

import pytest

from mmebm.utils.tables import markdown_table
from mmebm.visualization.benchmark_page import (
    BenchmarkReport,
    benchmark_page,
    charts,
    draw_results,
    failures,
    layer_charts,
    result_table,
    summarised,
    table_rows,
)
from mmebm.visualization.page import Curve, write_page
from tests.browser import assert_sound, look_at

KEYS = 'method', 'seed', 'split', 'protocol', 'accuracy', 'pretraining_epochs', 'layer'
ROWS = [
    dict(zip(KEYS, values, strict=True), pretraining_cpu_s=seconds, pretraining_lr=lr)
    for *values, seconds, lr in [
        ('scratch', 0, 'val', 'finetune', 99.0, 0, '', 0.0, ''),
        ('mae', 0, 'val', 'probe', 20.0, 20, 1, 3600.0, 1e-3),
        ('mae', 0, 'val', 'probe', 31.0, 20, 2, 3600.0, 1e-3),
        ('mae', 0, 'val', 'probe', 30.0, 20, 1, 3600.0, 3e-3),
        ('scratch', 0, 'test', 'finetune', 50.0, 0, '', 0.0, ''),
        ('scratch', 1, 'test', 'finetune', 52.0, 0, '', 0.0, ''),
        ('mae', 0, 'test', 'finetune', 60.04, 20, '', 3600.0, 1e-3),
        ('mae', 0, 'test', 'probe', 30.0, 20, 2, 3600.0, 1e-3),
        ('mae', 1, 'test', 'probe', 34.0, 20, 2, 7200.0, 1e-3),
        ('mae', 0, 'test', 'probe', 35.0, 40, 2, 7200.0, 1e-3),
    ]
]


@pytest.fixture
def report():
    return BenchmarkReport(
        title='Benchmark on <b>&',
        state='0 of 3 training runs left',
        rows=ROWS,
        results=summarised(ROWS),
        losses=[Curve('mae', [100, 200], [1.0, 0.5])],
        commands={('mae', 20): ['python train.py "<b>".py']},
        whole_command='mmebm benchmark data --out out',
        facts=dict(device='<b>'),
        options=dict(seeds='0, 1', folder='x' * 300),
    )


def test_table_averages_the_seeds_of_the_test_images():
    assert markdown_table(result_table(summarised(ROWS), 'CPU hours')).splitlines() == [
        '| method | epochs | CPU hours | finetune | probe |',
        '| --- | ---: | ---: | ---: | ---: |',
        '| scratch | 0 | 0.00 | 51.0 ± 1.0 |  |',  # the deviation is √2
        '| mae | 20 | 1.50 | 60.0 | 32.0 ± 2.0 |',
        '| mae | 40 | 2.00 |  | 35.0 |',
    ]


def test_the_best_of_each_column_and_its_layer():
    rows = table_rows(summarised(ROWS))
    assert [row['seeds'] for row in rows] == [2, 2, 1]
    assert [row['cells'] for row in rows] == [
        [('51.0 ± 1.0', '', False), ('', '', False)],
        [('60.0', '', True), ('32.0 ± 2.0', 'layer 2', False)],
        [('', '', False), ('35.0', 'layer 2', True)],
    ]


def test_curves_against_epochs_and_compute(report):
    found = {chart.title: chart for chart in charts(report)}
    assert list(found) == [
        'Finetuning against epochs', 'Finetuning against compute',
        'Linear probe against epochs', 'Linear probe against compute', 'Loss while pretraining',
    ]  # fmt: skip
    probe = found['Linear probe against compute']
    assert probe.x_label == 'CPU hours of pretraining'
    assert probe.curves == [Curve('mae', [1.5, 2.0], [32.0, 35.0], [pytest.approx(2.0), 0.0], 1)]
    assert found['Linear probe against epochs'].curves[0].x == [20, 40]
    assert found['Finetuning against epochs'].level == ('scratch', 51.0)


def test_layers_at_the_best_learning_rate():
    (probe,) = (chart for chart in layer_charts(ROWS) if chart.shown)
    assert probe.curves == [Curve('mae', [1, 2], [20.0, 31.0], style=1)]


def test_failed_runs_are_named_and_not_averaged():
    more = dict(accuracy=nan, layer='', pretraining_cpu_s=9e9, pretraining_lr=1e-3)
    failed = [
        dict(zip(KEYS[:4], values, strict=True), pretraining_epochs=20, failed='diverged, see a/b')
        | more
        for values in (('mae', 1, 'test', 'finetune'), ('beit', 0, 'val', 'pretraining'))
    ]
    rows = [*ROWS, *failed]
    assert summarised(rows) == summarised(ROWS)
    assert failures(ROWS) == []
    assert failures(rows) == [
        'mae, seed 1, finetune: diverged, see a/b',
        'beit, seed 0, pretraining: diverged, see a/b',
        'beit is left out: every run failed',
    ]
    assert 'mae, seed 1, finetune: diverged' in benchmark_page(BenchmarkReport('Title', rows=rows))


def test_the_last_layer_is_in_tables_only(report):
    rows = [*ROWS, dict(ROWS[-1], protocol='probe-last', layer=6, accuracy=12.0)]
    results = summarised(rows)
    assert [row['cells'][2] for row in table_rows(results)][2] == ('12.0', 'layer 6', True)
    assert result_table(results, 'CPU hours')[0][-2:] == ['probe', 'probe-last']
    titles = [chart.title for chart in charts(report)]
    report.results, report.rows = results, rows
    assert [chart.title for chart in charts(report)] == titles
    assert len(draw_results(results, 'CPU hours').axes) == 4
    assert 'linear probe, last layer' in benchmark_page(report)


def test_names_are_escaped(report):
    page = benchmark_page(report)
    assert '<b>&' not in page
    assert 'python train.py &#34;&lt;b&gt;&#34;.py' in page
    assert not re.search('https?://', page)
    assert 'Nothing has been measured' in benchmark_page(BenchmarkReport(title='Empty'))


@pytest.mark.slow
def test_in_a_browser(report, tmp_path):
    report.rows = [*ROWS, dict(ROWS[-1], failed='diverged, see ' + 60 * 'long/')]
    report.copies = 60 * '/long'
    write_page(tmp_path / 'report.html', benchmark_page(report))
    assert_sound(look_at(tmp_path / 'report.html'))


def test_drawing():
    """Against compute; against epochs too, if there are several lengths."""
    results = summarised(ROWS)
    axes = draw_results(results, 'CPU hours').axes
    assert len(axes) == 2 * len({r['protocol'] for r in ROWS if r['split'] == 'test'})
    one = [r for r in results if r.epochs in (0, max(r.epochs for r in results))]
    only = draw_results(one, 'CPU hours').axes
    assert len(only) == len(axes) // 2
    assert only[0].get_xlabel() == 'CPU hours of pretraining'
    assert axes[0].get_xlabel() == 'epochs of pretraining'
