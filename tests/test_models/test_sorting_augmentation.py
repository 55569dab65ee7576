import pytest
import torch
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from mmebm.backbones import PatchSelection
from mmebm.backbones.patch_dropout import kept_patches
from mmebm.models.sorting_augmentation import (
    mask_patch_edges,
    validation_noise,
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
    masked = mask_patch_edges(torch.ones(1, 1, 6, 12), torch.tensor([[[1, 2]]]), (6, 6))
    torch.testing.assert_close(masked[0, 0], expected)


def test_each_image_and_row_has_its_own_widths_and_all_channels_the_same():
    images = torch.randn(2, 3, 8, 4)
    before = images.clone()
    masked = mask_patch_edges(images, torch.tensor([[[0], [1]], [[1], [0]]]), (4, 4))
    torch.testing.assert_close(images, before)
    torch.testing.assert_close(masked[0, :, :4], images[0, :, :4])
    torch.testing.assert_close(masked[1, :, 4:], images[1, :, 4:])
    inner = torch.zeros(3, 4, 4)
    inner[:, 1:3, 1:3] = images[0, :, 5:7, 1:3]
    torch.testing.assert_close(masked[0, :, 4:], inner)
    inner[:, 1:3, 1:3] = images[1, :, 1:3, 1:3]
    torch.testing.assert_close(masked[1, :, :4], inner)


def test_images_of_another_size_are_named():
    with pytest.raises(ValueError, match='must have 8 × 4 pixels, 2 × 1 patches of 4 × 4, got 10'):
        mask_patch_edges(torch.ones(1, 3, 10, 8), torch.ones(1, 2, 1), (4, 4))


def test_kept_patches_are_half_different_and_of_each_image_its_own():
    patches = kept_patches(torch.rand(64, 10, generator=torch.Generator().manual_seed(0)), 0.5)
    assert patches.shape == (64, 5)
    assert all(len(set(row)) == 5 and row == sorted(row) for row in patches.tolist())
    assert len(set(map(tuple, patches.tolist()))) > 32
    counts = patches.flatten().bincount(minlength=10)
    assert counts.min() > 16  # 32 expected
    assert counts.max() < 48


def test_all_patches_are_kept_where_none_is_dropped():
    assert kept_patches(torch.rand(2, 5), 0.0).tolist() == [[0, 1, 2, 3, 4]] * 2


def test_validation_noise_belongs_to_the_image_not_to_its_place_in_the_batch():
    samples = [DataSample(metainfo=dict(sample_idx=i)) for i in (7, 3)]
    noise = validation_noise(2, 50, samples)
    assert noise.shape == (2, 2, 50)
    torch.testing.assert_close(validation_noise(2, 50, samples[::-1]), noise.flip(0))
    assert not torch.allclose(noise[0], noise[1])
    torch.testing.assert_close(validation_noise(4, 50)[3], noise[1])
    with pytest.raises(ValueError, match='sample_idx'):
        validation_noise(1, 50, [DataSample()])


def test_backbone_sees_only_the_patches_and_is_as_before_afterwards():
    model = MODELS.build(VIT)
    model.init_weights()
    images = torch.randn(2, 3, 8, 12)
    patches = torch.tensor([[5, 1, 2], [0, 1, 3]])
    whole = model(images)[-1]
    selection = PatchSelection(model)
    with selection.only(patches):
        some = model(images)[-1]
        images[0, :, :4, :4] = 9  # patch 0 of the first image, which is dropped
        torch.testing.assert_close(model(images)[-1], some)
        images[0, :, 4:, 8:] = 9  # patch 5, which is seen
        assert not torch.allclose(model(images)[-1][0], some[0])
    assert some.shape == (2, 1 + 3, 16)
    assert whole.shape == (2, 1 + 6, 16)
    assert model(images)[-1].shape == whole.shape
    with pytest.raises(ZeroDivisionError), selection.only(patches):
        raise ZeroDivisionError
    assert model(images)[-1].shape == whole.shape
