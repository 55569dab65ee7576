import pytest
import torch

from mmebm.utils.device import usable_device


def test_usable_device():
    assert usable_device('cpu') == torch.device('cpu')
    assert usable_device().type == ('cuda' if torch.cuda.is_available() else 'cpu')


@pytest.mark.parametrize('name', ['tpu', 'cuda:99', 'opengl'])
def test_a_device_that_is_not_there(name):
    with pytest.raises(ValueError, match=f'device {name} cannot be used: '):
        usable_device(name)
