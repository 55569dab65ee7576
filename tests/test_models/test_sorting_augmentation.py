import pytest
import torch
from mmpretrain.registry import MODELS

from mmebm.models.sorting_augmentation import (
    keep_patches,
    mask_edges,
    only_patches,
    random_edge_widths,
    random_patches,
)

# 6 × 12 pixels, patches of 6 × 6: the left one keeps all but 1 pixel from its border, the right one
# all but 2.
MASKED = """
000000000000
011110000000
011110001100
011110001100
011110000000
000000000000
"""
VIT = dict(
    type='mmpretrain.VisionTransformer',
    arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=16),
    img_size=(8, 12),
    patch_size=4,
    out_type='raw',
)


def test_edges_of_literal_patches():
    expected = torch.tensor([[float(p) for p in row] for row in MASKED.split()])
    masked = mask_edges(torch.ones(1, 1, 6, 12), 6, torch.tensor([[[1, 2]]]))
    torch.testing.assert_close(masked[0, 0], expected)


def test_each_image_and_row_has_its_own_widths_and_all_channels_the_same():
    images = torch.randn(2, 3, 8, 4)
    before = images.clone()
    masked = mask_edges(images, 4, torch.tensor([[[0], [1]], [[1], [0]]]))
    torch.testing.assert_close(images, before)
    torch.testing.assert_close(masked[0, :, :4], images[0, :, :4])
    torch.testing.assert_close(masked[1, :, 4:], images[1, :, 4:])
    inner = torch.zeros(3, 4, 4)
    inner[:, 1:3, 1:3] = images[0, :, 5:7, 1:3]
    torch.testing.assert_close(masked[0, :, 4:], inner)
    inner[:, 1:3, 1:3] = images[1, :, 1:3, 1:3]
    torch.testing.assert_close(masked[1, :, :4], inner)


def test_one_width_for_all():
    masked = mask_edges(torch.ones(2, 3, 8, 12), 4, torch.tensor(1))
    assert masked.sum() == 2 * 3 * 6 * 4


def test_patches_that_do_not_divide_the_image():
    with pytest.raises(ValueError, match='10 × 8 pixels do not divide into patches of 4 × 4'):
        mask_edges(torch.ones(1, 3, 10, 8), 4, torch.tensor(1))


def test_widths_are_equally_likely():
    torch.manual_seed(0)
    widths = random_edge_widths((1, 2), 100, (10, 20), torch.device('cpu'))
    assert widths.shape == (100, 10, 20)
    assert set(widths.unique().tolist()) == {1, 2}
    assert (widths == 1).float().mean().item() == pytest.approx(0.5, abs=0.02)


def test_random_patches_are_different_and_of_each_image_its_own():
    torch.manual_seed(0)
    patches = random_patches(64, 10, 5, torch.device('cpu'))
    assert patches.shape == (64, 5)
    assert all(len(set(row)) == 5 for row in patches.tolist())
    assert len(set(map(tuple, patches.tolist()))) > 32
    counts = patches.flatten().bincount(minlength=10)
    assert counts.min() > 16  # 32 expected
    assert counts.max() < 48


def test_keeps_the_extra_tokens_and_the_patches_in_their_order():
    tokens = torch.arange(6.0)[None, :, None].expand(1, 6, 2)
    kept = keep_patches(tokens, torch.tensor([[3, 0]]), num_extra_tokens=2)
    assert kept[0, :, 0].tolist() == [0, 1, 5, 2]


def test_backbone_sees_only_the_patches_and_is_as_before_afterwards():
    model = MODELS.build(VIT)
    model.init_weights()
    images = torch.randn(2, 3, 8, 12)
    patches = torch.tensor([[5, 1, 2], [0, 1, 3]])
    whole = model(images)[-1]
    with only_patches(model, patches):
        some = model(images)[-1]
        images[0, :, :4, :4] = 9  # patch 0 of the first image, which is dropped
        torch.testing.assert_close(model(images)[-1], some)
        images[0, :, 4:, 8:] = 9  # patch 5, which is seen
        assert not torch.allclose(model(images)[-1][0], some[0])
    assert some.shape == (2, 1 + 3, 16)
    assert whole.shape == (2, 1 + 6, 16)
    assert not model.drop_after_pos._forward_hooks
    with pytest.raises(RuntimeError), only_patches(model, torch.tensor([[6], [0]])):
        model(images)
    assert not model.drop_after_pos._forward_hooks
