"""What a run has learnt, in words."""

import pytest
import torch

from mmebm.report.verdict import contrast, verdict


def test_contrast_of_features():
    """Two points at a distance of 1 on either side of their mean, which is 2 long."""
    assert contrast(torch.tensor([[2.0, 1.0], [2.0, -1.0]])) == pytest.approx(0.5)
    assert contrast(torch.ones(5, 3)) == 0
    torch.manual_seed(0)
    features = torch.randn(4000, 64) + 1
    assert contrast(features) == pytest.approx(1, abs=0.02)
    assert contrast(10 * features) == pytest.approx(contrast(features))


@pytest.mark.parametrize(
    ('figures', 'end'),
    [
        (dict(updates=21, gain=-0.001, features=(1.07, 0.9)), 'Too short: 21 updates'),
        (dict(updates=21, gain=1.0, features=(1.07, 0.01)), 'Too short: 21 updates'),
        (dict(updates=5000, gain=3.0, features=(1.07, 0.05)), 'nearly the same features'),
        (dict(updates=5000, gain=0.0, features=(1.07, 0.4)), 'restores nothing'),
        (dict(updates=500, gain=1.0, features=(1.07, 0.4)), 'longer runs give better'),
        (dict(updates=5000, gain=1.0, features=(None, 0.4)), 'Worth trying'),
        (dict(updates=5000, features=(1.07, 0.4), knn=(0.2, 0.4)), 'Worth trying'),
    ],
)
def test_whether_to_use_a_backbone(figures, end):
    said = verdict(seconds=90, images=100, **figures)
    assert end in said[-1]
    assert 'too few' not in said[-1]
    assert 'Contrast' not in ' '.join(verdict(seconds=90, images=1, **figures))
    assert 'too few to trust' in verdict(seconds=90, images=19, **figures)[-1]
    assert ('doing nothing' in ' '.join(said)) == ('gain' in figures)
