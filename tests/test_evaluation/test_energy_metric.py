import math

import pytest
from mmpretrain.registry import METRICS

import mmebm.evaluation  # noqa: F401  registers the metric


def evaluate(clean, corrupted, corruptions=None):
    metric = METRICS.build(dict(type='EnergyMetric'))
    for i, (negative, positive) in enumerate(zip(clean, corrupted, strict=True)):
        one = dict(energy_clean=negative, energy_corrupted=positive)
        metric.process(None, [one | (dict(corruption=corruptions[i]) if corruptions else {})])
    return metric.evaluate(len(clean))


def test_auroc_counted_by_hand():
    # Corrupted above clean in (2 > 0, 2 > 1; 1 > 0, 1 = 1 counts half; 5 > all but 7): 3 clean × 3.
    metrics = evaluate([0.0, 1.0, 7.0], [2.0, 1.0, 5.0])
    assert metrics == {
        'energy/auroc': pytest.approx(5.5 / 9),
        'energy/clean': pytest.approx(8 / 3),
        'energy/corrupted': pytest.approx(8 / 3),
    }


def test_figures_per_corruption():
    metrics = evaluate([0.0, 1.0, 2.0], [5.0, 0.5, 0.2], ['Noise', 'Mask', 'Mask'])
    assert metrics['energy/Noise/auroc'] == 1
    assert metrics['energy/Mask/auroc'] == 0
    assert metrics['energy/Mask/clean'] == 1.5
    assert metrics['energy/Mask/corrupted'] == pytest.approx(0.35)
    # 5 is above all three; 0.5 and 0.2 only above 0.
    assert metrics['energy/auroc'] == pytest.approx(5 / 9)


@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_energies_that_are_not_finite_make_the_auroc_nan(value):
    metrics = evaluate([0.0, value, 1.0], [1.0, 1.0, 2.0], ['Noise', 'Noise', 'Mask'])
    assert math.isnan(metrics['energy/auroc'])
    assert math.isnan(metrics['energy/Noise/auroc'])
    assert metrics['energy/Mask/auroc'] == 1
    assert not math.isfinite(metrics['energy/clean'])
    assert metrics['energy/corrupted'] == pytest.approx(4 / 3)


def test_no_images_no_figures():
    assert evaluate([], []) == {}


def test_missing_energy_is_named():
    metric = METRICS.build(dict(type='EnergyMetric'))
    with pytest.raises(ValueError, match=r"needs 'energy_corrupted'.*\['energy_clean'\]"):
        metric.process(None, [dict(energy_clean=0.0)])
