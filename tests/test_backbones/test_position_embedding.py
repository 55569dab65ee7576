import math

import pytest
import torch
from mmpretrain.registry import MODELS

from mmebm.backbones.position_embedding import (
    check_image_size,
    find_position_embedding,
    set_sincos_position_embedding,
    sincos_position_embedding,
)
from tests.backbones import BACKBONES

SIZE = dict(img_size=(24, 16))
VIT, TIMM = (BACKBONES[name][0] | SIZE for name in ('ViT', 'timm ViT'))


def test_values_row_by_row_on_a_grid_that_is_not_square():
    embedding = sincos_position_embedding((3, 2), 8)
    assert embedding.shape == (6, 8)
    for row in range(3):
        for column in range(2):
            # 8 channels: sin and cos of the row, of the column, at frequencies 1 and 1/100
            expected = [
                f(position * frequency)
                for position in (row, column)
                for f in (math.sin, math.cos)
                for frequency in (1, 0.01)
            ]
            torch.testing.assert_close(embedding[row * 2 + column], torch.tensor(expected))


@pytest.mark.parametrize(('config', 'name'), [(VIT, 'pos_embed'), (TIMM, 'timm_model.pos_embed')])
def test_found_and_written_in_mmpretrain_and_timm(config, name):
    backbone = MODELS.build(config)
    found = find_position_embedding(backbone)
    assert (found.name, found.grid, found.num_extra_tokens) == (name, (3, 2), 1)
    set_sincos_position_embedding(backbone)
    value = backbone.get_parameter(name)
    assert not value[:, 0].any()
    assert torch.equal(value[0, 1:], sincos_position_embedding((3, 2), 32))
    assert value.requires_grad


@pytest.mark.parametrize(('config', 'rows', 'columns'), [(VIT, 4, 3), (TIMM, 3, 2)])
def test_patches_that_do_not_fit(config, rows, columns):
    backbone = MODELS.build(config | dict(img_size=(29, 20)))  # MMPretrain pads, timm leaves over
    found = find_position_embedding(backbone)
    assert (found.grid, found.patch_size) == ((rows, columns), (8, 8))
    with pytest.raises(ValueError, match=f'for images of {8 * rows} × {8 * columns} pixels'):
        check_image_size(backbone, torch.zeros(1, 3, 29, 20))


def test_refuses_channels_that_are_no_multiple_of_four():
    with pytest.raises(ValueError, match='multiple of 4 channels, the backbone has 6'):
        sincos_position_embedding((2, 2), 6)
