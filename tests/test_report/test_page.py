"""The page of a run: what stands on it, and how a browser sees it."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from mmebm.models.chain import Chain
from mmebm.report.history import Record
from mmebm.report.page import Chart, line_chart, write_page
from mmebm.report.run_page import charts, report_page, tiles
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
def page():
    return report_page(
        HISTORY,
        title=f'Pretraining of {HOSTILE}',
        said=['So far', 'Worth trying.'],
        images=40,
        chains=[(chain(32), 'a.png'), (chain(300, steps=12, title=HOSTILE), HOSTILE)],
        skipped=[f'/data/{n}/{HOSTILE}' for n in range(60)],
        facts=dict(folder=f'/out/{HOSTILE}'),
        settings=f'model = {HOSTILE!r}\n' + 'x' * 500,
    )


@pytest.mark.slow
def test_in_a_browser(page, tmp_path):
    file = tmp_path / 'report.html'
    write_page(file, page)
    assert_sound(seen := look_at(file))
    assert seen.pictures == 2
    assert list(tmp_path.iterdir()) == [file]


def test_names_are_escaped_and_nothing_is_asked_for_outside(page):
    assert '<script' not in page
    assert page.count('&lt;script&gt;alert(1)') > 50
    assert not re.search('src="(?!data:)|url\\((?!#)|href="(?!#|data:)', page)
    assert "default-src 'none'" in page
    assert 'and 10 more' in page


def test_an_empty_report_is_a_page():
    page = report_page([], 0, title='', said=[], skipped=[], facts={}, settings='')
    assert 'Nothing has been logged yet' in page
    for part in ('Held-out', '<img'):
        assert part not in page


def test_curves_of_what_was_logged():
    found = {chart.title: chart for chart in charts(HISTORY, 40) if any(chart.curves.values())}
    assert {title: chart.curves for title, chart in found.items()} == {
        'Training loss': {'loss': [(10, 2.0), (20, 1.5)]},
        'PSNR gain': {'Blur': [(10, 2.5)], 'Noise': [(10, 10.0)]},  # perfect counts as 100 dB
        'AUROC of the energy': {'all images': [(10, 0.75)]},
        'kNN accuracy': {'kNN': [(10, 50.0), (20, 62.5)]},
        'Distance to the original': {
            'step0': [(10, 3.0), (20, 3.0)],
            'step1': [(10, 2.5), (20, 2.0)],
        },
        'Step size α': {'α': [(10, 300.0), (20, 310.0)]},
    }
    assert not charts(HISTORY, 40, borrowed=True)[1].curves
    assert found['Training loss'].level == ('of doing nothing', 3.0)
    figures = {'restoration/psnr': 21.0, 'restoration/psnr_corrupted': 20.0}
    gains = charts([Record(1, False, figures)], 40)[1]
    assert gains.curves == {'all images': [(1, 1.0)]}
    rates = charts([Record(1, True, dict(lr=1e-2, base_lr=1e-3))], 40)[-1]
    assert rates.curves == {'learning rate': [(1, 1e-3)]}  # not that of α


def test_headlines():
    """The last values; none of few images, no borrowed PSNR, no step size."""
    names = {name.split(',')[0]: value for name, value in tiles(HISTORY, 20, False)}
    assert names == {
        'PSNR gain': '+6.25 dB', 'kNN accuracy': '62.5%',
        'AUROC of the energy': '0.75', 'loss': '1.5',
    }  # fmt: skip
    assert dict(tiles(HISTORY, 19, False)) == {'loss': '1.5'}
    assert not any('PSNR' in name for name, _ in tiles(HISTORY, 20, borrowed=True))


def text_of(div):
    """All text of a chart, which has to be sound XML."""
    return ' '.join(ElementTree.fromstring(div).itertext())


def test_charts_name_their_curves_and_last_values():
    chart = Chart('t', {'<a>': [(0, 1), (1, 3)], 'b': []}, ' dB', level=('chance', 2))
    text = text_of(line_chart(chart))
    for words in ('<a> 3.00 dB', 'chance 2.00 dB', 'iterations'):
        assert words in text
    long = Chart('t', {'a': [(n, n % 2) for n in range(100_000)]})
    assert len(line_chart(long)) < 30_000
