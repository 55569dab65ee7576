import pytest
import torch
from mmpretrain.registry import MODELS

from mmebm import EnergyHead

D = 6


@pytest.fixture
def head():
    head = EnergyHead(in_channels=D)
    torch.nn.init.normal_(head.fc.weight)
    return head


@pytest.mark.parametrize(
    ('shape', 'pooled_axes'),
    [
        ((4, D), ()),
        ((4, 9, D), (1,)),
        ((4, D, 9), (2,)),
        ((4, D, 3, 5), (2, 3)),
        ((4, 3, 5, D), (1, 2)),
        ((4, D, 3, D), (2, 3)),  # ambiguous: a map is (B, D, H, W) first
        ((4, D, D), (1,)),  # ambiguous: tokens are (B, L, D) first
    ],
)
def test_energy_is_the_linear_function_of_the_mean_features(head, shape, pooled_axes):
    features = torch.randn(shape)
    mean = features.mean(pooled_axes) if pooled_axes else features
    expected = (mean * head.fc.weight[0]).sum(-1)
    nested = (torch.zeros(2, 9), [torch.zeros(2, D, 3, 3), features])
    for given in (features, (torch.zeros(1), features), [features], nested):
        energy = head(given)
        assert energy.shape == (4,)
        torch.testing.assert_close(energy, expected)


def test_head_is_registered_bias_free_and_starts_at_zero():
    head = MODELS.build(dict(type='EnergyHead', in_channels=D))
    head.init_weights()
    assert head.fc.bias is None
    assert [tuple(p.shape) for p in head.parameters()] == [(1, D)]
    assert torch.count_nonzero(head.fc.weight) == 0


@pytest.mark.parametrize(
    ('features', 'error', 'match'),
    [
        (torch.randn(4, 7), ValueError, 'in_channels=6.*in_channels=7'),
        (torch.randn(4, 9, 7), ValueError, 'in_channels=7 or 9'),
        (torch.randn(4, 7, 3, 7), ValueError, 'in_channels=7'),
        (torch.randn(1, 2, 3, 4, D), ValueError, r'\(1, 2, 3, 4, 6\)'),
        ({'x': torch.randn(1, D)}, TypeError, 'dict'),
        ((), TypeError, 'tuple'),
        (torch.zeros(1, D, dtype=torch.long), TypeError, r'torch\.int64'),
    ],
)
def test_other_features_are_refused(head, features, error, match):
    with pytest.raises(error, match=match):
        head(features)


@pytest.mark.parametrize('value', [0, -1, 1.5, True, '8', None])
def test_in_channels_must_be_a_positive_integer(value):
    with pytest.raises((TypeError, ValueError), match=repr(value)):
        EnergyHead(in_channels=value)
