"""Whether tensors fit a network, and the message about those that do not."""

import pytest
import torch
from torch import nn

from mmebm.utils.state_dict import Fit, check_fit, fit_of


@pytest.fixture
def network():
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))  # four tensors


def test_its_own_tensors_fit(network):
    fit = fit_of(network, network.state_dict())
    assert fit == Fit(4, [], [], [])
    assert fit.share == 1
    assert fit.differences == ''
    check_fit(network, network.state_dict(), 'a.pth', 'Sequential')


def test_each_kind_of_difference_is_counted_and_named(network):
    tensors = network.state_dict()
    del tensors['0.bias']
    tensors['1.weight'] = torch.zeros(4, 5)
    tensors['2.weight'] = torch.zeros(1)
    fit = fit_of(network, tensors)
    unfit = '1.weight is (4, 5) in the file, (4, 3) in the network'
    assert fit == Fit(4, ['0.bias'], ['2.weight'], [unfit])
    assert fit.share == 0.5
    differences = (
        f'1 missing in the file: 0.bias; 1 not in the network: 2.weight; 1 do not fit: {unfit}'
    )
    assert fit.differences == differences
    with pytest.raises(ValueError, match=r'a\.pth belongs to another network than X') as error:
        check_fit(network, tensors, 'a.pth', 'X')
    assert differences in str(error.value)


@pytest.mark.parametrize('value', ['text', {'deeper': torch.zeros(3)}, torch.zeros(3, 1)])
def test_values_of_another_shape_do_not_fit(network, value):
    fit = fit_of(network, {**network.state_dict(), '0.bias': value})
    assert len(fit.unfit) == 1
    assert fit.share == 0.75
