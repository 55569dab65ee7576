"""The page of a run: what stands on it, and how a browser sees it."""

import re

import numpy as np
import pytest

from mmebm.models.chain import Chain
from mmebm.utils.run_history import Record
from mmebm.visualization.page import Chart, Curve, histogram, line_chart, number, thin, write_page
from mmebm.visualization.report_page import (
    Energies,
    Neighbours,
    RunReport,
    chain_pictures,
    charts,
    report_page,
    tiles,
)
from tests.browser import assert_sound, look_at

HOSTILE = '<script>alert(1)</script>"\'&\u202e\udce4.png'


def picture(size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def chain(size, steps=2, title='GriddedMask'):
    images = np.stack([picture(size, n) for n in range(steps + 1)]).astype(float)
    energies = np.arange(steps + 1.0)
    return Chain(images, energies, picture(size, 9).astype(float), 0.5, title)


HISTORY = [
    Record(10, True, dict(loss=2.0, step_size=300.0, distance_step0=3.0, distance_step1=2.5)),
    Record(
        10,
        False,
        {
            'restoration/psnr': 21.0,
            'restoration/psnr_corrupted': 20.0,
            'restoration/Blur/psnr': 23.0,
            'restoration/Blur/psnr_corrupted': 20.5,
            'restoration/Noise/psnr': float('inf'),
            'restoration/Noise/psnr_corrupted': 90.0,
            'restoration/psnr_gain': 6.25,
            'energy/auroc': 0.75,
            'knn/accuracy': 0.5,
        },
    ),
    Record(20, True, dict(loss=1.5, step_size=310.0, distance_step0=3.0, distance_step1=2.0)),
    Record(20, False, {'knn/accuracy': 0.625, 'energy/auroc': float('nan')}),
]


@pytest.fixture
def report():
    found = [(picture(300, n), f'{n}/{HOSTILE}', 0.9 - n / 10) for n in range(5)]
    rng = np.random.default_rng(0)
    return RunReport(
        title=f'Pretraining of {HOSTILE}',
        state='So far',
        history=HISTORY,
        iterations_per_epoch=10,
        energies=[Energies(HOSTILE, rng.normal(size=40), rng.normal(1, 1, size=40), 0.76)],
        chains=[chain(32), chain(300, steps=12, title=HOSTILE)],
        names=['a.png', HOSTILE],
        neighbours=[Neighbours(picture(300), HOSTILE, found)],
        gallery=100,
        skipped=[f'/data/{n}/{HOSTILE}' for n in range(60)],
        facts=dict(folder=f'/out/{HOSTILE}'),
        versions=dict(torch='2'),
        settings=f'model = {HOSTILE!r}\n' + 'x' * 500,
    )


@pytest.mark.slow
def test_in_a_browser(report, tmp_path):
    file = tmp_path / 'report.html'
    write_page(file, report_page(report))
    assert_sound(seen := look_at(file))
    assert seen.pictures == (4 + 6) + (1 + 5)
    assert list(tmp_path.iterdir()) == [file]


def test_names_are_escaped_and_nothing_is_asked_for_outside(report):
    page = report_page(report)
    assert '<script' not in page
    assert page.count('&lt;script&gt;alert(1)') > 60
    assert not re.search('https?://|src="(?!data:)|url\\(', page)
    assert "default-src 'none'" in page
    assert 'and 10 more' in page


def test_an_empty_report_is_a_page(tmp_path):
    page = report_page(RunReport(title='Nothing'))
    assert 'Nothing has been logged yet' in page
    for part in ('Held-out', 'Nearest', 'Energies', '<img'):
        assert part not in page


def test_curves_of_what_was_logged():
    found = {chart.title: chart for chart in charts(HISTORY, 10) if chart.shown}
    assert list(found) == [
        'Training loss', 'PSNR gain on held-out images', 'AUROC of the energy on held-out images',
        'Accuracy of nearest neighbours', 'Distance to the original while training', 'Step size α',
    ]  # fmt: skip
    assert found['Training loss'].curves == [Curve('loss', [1.0, 2.0], [2.0, 1.5])]
    gains = found['PSNR gain on held-out images'].curves
    assert gains == [  # perfect counts as 100 dB
        Curve('Blur', [1.0], [2.5]), Curve('Noise', [1.0], [10.0]), Curve('mean', [1.0], [6.25])
    ]  # fmt: skip
    accuracy = found['Accuracy of nearest neighbours'].curves
    assert accuracy == [Curve('kNN', [1.0, 2.0], [50.0, 62.5])]
    distances = found['Distance to the original while training'].curves
    assert [curve.name for curve in distances] == ['corrupted', 'after step 1']
    by_iteration = charts(HISTORY)[0]
    assert (by_iteration.x_label, by_iteration.curves[0].x) == ('iterations', [10.0, 20.0])


def test_without_names_the_gain_is_of_all_images():
    figures = {'restoration/psnr': 21.0, 'restoration/psnr_corrupted': 20.0}
    gains = charts([Record(1, False, figures)])[1]
    assert gains.curves == [Curve('all images', [1.0], [1.0])]


def test_tiles_have_the_last_values():
    assert tiles(HISTORY) == [
        ('PSNR gain, held out', '+6.25 dB'), ('kNN accuracy', '62.5%'), ('loss', '1.5'),
        ('step size α', '310'),
    ]  # fmt: skip


def test_a_long_chain_is_shown_in_few_pictures():
    names = [p.title for p in chain_pictures(chain(8, steps=12))]
    assert names == ['original', 'corrupted', 'step 3', 'step 6', 'step 9', 'restored']
    short = chain_pictures(chain(8, steps=1))
    assert [p.title for p in short] == ['original', 'corrupted', 'restored']
    assert short[1].lines[0].endswith(' dB')
    assert short[1].lines[1] == 'E 0'
    np.testing.assert_array_equal(short[0].pixels, picture(8, 9))
    sorting = Chain(np.zeros((2, 8, 8, 3)), np.array([np.nan, 1]), accuracy=np.array([0.25, 1]))
    assert [(p.title, p.lines) for p in chain_pictures(sorting)] == [
        ('shuffled', ['25% right']), ('sorted', ['100% right', 'E 1'])
    ]  # fmt: skip


def heights(svg):
    """Of the points of each curve, upwards."""
    lines = re.findall('<polyline[^>]* points="([^"]*)"', svg)
    return [[-float(p.split(',')[1]) for p in line.split()] for line in lines]


def test_points_stand_as_high_as_their_values():
    svg = line_chart(Chart('t', 'x', [Curve('a', [0, 1, 2], [0, 1, 3]), Curve('b', [0], [3])]))
    (low, middle, high), (other,) = heights(svg)
    assert (middle - low) / (high - low) == pytest.approx(1 / 3, abs=0.01)
    assert other == high


def test_a_style_is_kept_and_the_axis_may_begin_at_zero():
    curve = Curve('a', [2, 4], [0, 1], style=3)
    drawn = line_chart(Chart('t', 'x', [curve]))
    assert 'class="curve s3" points="46.0' in drawn  # at the left edge
    points = re.search(
        'points="([0-9.]+),[0-9.]+ ([0-9.]+)', line_chart(Chart('t', 'x', [curve], from_zero=True))
    )
    left, right = float(points[1]), float(points[2])
    assert left - 46 == pytest.approx(right - left)


def test_what_is_not_finite_is_left_out():
    nan = float('nan')
    x, y = thin([1, 2, 3], [1, nan, float('inf')])
    assert (x.tolist(), y.tolist()) == ([1], [1])
    assert line_chart(Chart('t', 'x', [Curve('a', [1], [nan])])) == ''
    assert histogram([('a', [nan]), ('b', [])]) == ''
    assert len(re.findall('<polyline', line_chart(Chart('t', 'x', [Curve('a', [1], [2])])))) == 1


def test_a_long_curve_becomes_means():
    x, y = thin(range(1000), np.arange(1000) % 2, most=100)
    np.testing.assert_allclose(x, 10 * np.arange(100) + 4.5)
    np.testing.assert_allclose(y, 0.5)


def test_bars_count_all_values_of_each_group():
    svg = histogram([('clean', [0.0] * 3), ('corrupted', [*np.linspace(0, 1, 7), 50.0])])
    counts = re.findall('<title>(clean|corrupted): (\\d+) in', svg)
    total = {name: sum(int(n) for m, n in counts if m == name) for name, _ in counts}
    assert total == dict(clean=3, corrupted=8)


def test_numbers_are_short():
    values = (0.12345, -2, 1234.5, 0.00001234, 12_345_678)
    assert [number(v) for v in values] == ['0.123', '−2', '1,234', '1.23e−05', '1.23e+07']
