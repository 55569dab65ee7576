import math

import pytest
import torch
from mmpretrain.registry import METRICS

import mmebm.evaluation  # noqa: F401  registers the metric


def evaluate(*images):
    metric = METRICS.build(dict(type='SortingMetric'))
    for restored, shuffled in images:
        sample = dict(
            restored_positions=torch.tensor(restored), shuffled_positions=torch.tensor(shuffled)
        )
        metric.process(None, [sample])
    return metric.evaluate(len(images))


def test_shares_counted_by_hand():
    metrics = evaluate(([0, 1, 1, 3], [3, 1, 0, 2]), ([2, 2, 2, 2], [1, 0, 3, 2]))
    assert metrics == {
        'sorting/accuracy': 4 / 8,  # patches 0, 1, 3 of the first image, 2 of the second
        'sorting/accuracy_shuffled': 1 / 8,
        'sorting/chance': 1 / 4,
    }
    assert all(type(value) is float for value in metrics.values())


def test_sorted_images_score_one_and_no_images_give_nothing():
    assert evaluate(([0, 1, 2], [1, 2, 0]))['sorting/accuracy'] == 1
    assert METRICS.build(dict(type='SortingMetric')).compute_metrics([]) == {}


def test_an_auto_encoder_has_no_shuffled_start():
    metric = METRICS.build(dict(type='SortingMetric'))
    metric.process(None, [dict(restored_positions=[0, 2, 1])])
    assert metric.evaluate(1) == {'sorting/accuracy': 1 / 3, 'sorting/chance': 1 / 3}


def test_embeddings_that_are_not_finite_make_the_accuracy_nan():
    metrics = evaluate(([0, -1, 2], [1, 2, 0]), ([0, 1, 2], [0, 1, 2]))
    assert math.isnan(metrics['sorting/accuracy'])
    assert metrics['sorting/accuracy_shuffled'] == 1 / 2


@pytest.mark.parametrize(
    ('sample', 'match'),
    [
        (dict(shuffled_positions=[0]), "SortingMetric needs 'restored_positions'.*shuffled_pos"),
        (dict(restored_positions=[0, 1], shuffled_positions=[0]), r'\(2,\) and \(1,\)'),
        (dict(restored_positions=[[0]], shuffled_positions=[[0]]), r'shape \(L,\).*\(1, 1\)'),
        (dict(restored_positions=[], shuffled_positions=[]), 'L ≥ 1'),
    ],
)
def test_samples_that_do_not_fit(sample, match):
    with pytest.raises(ValueError, match=match):
        METRICS.build(dict(type='SortingMetric')).process(None, [sample])
