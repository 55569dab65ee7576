"""What the pictures of sorting show, patch by patch."""

import numpy as np
import torch
from mmpretrain.structures import DataSample

from mmebm.models.chain import draw_chains
from mmebm.models.sorting_pictures import assign_positions, place_patches
from tests.test_models.test_energy_sorting import build, images


def test_patches_are_drawn_at_their_positions():
    image = torch.arange(24.0).reshape(1, 1, 4, 6)  # 2 × 3 patches of 2 × 2 pixels
    positions = torch.tensor([[5, 0, 1, 2, 3, 4]])  # the first patch goes last, the others move up
    placed = place_patches(image, positions, (2, 3))
    assert placed[0, 0].tolist() == [
        [2, 3, 4, 5, 12, 13],
        [8, 9, 10, 11, 18, 19],
        [14, 15, 16, 17, 0, 1],
        [20, 21, 22, 23, 6, 7],
    ]
    batch = torch.cat([image, image]).repeat(1, 3, 1, 1)  # each image goes by its own positions
    both = place_patches(batch, torch.stack([torch.arange(6), positions[0]]), (2, 3))
    assert torch.equal(both, torch.cat([image, placed]).repeat(1, 3, 1, 1))


def test_each_position_gets_one_patch_at_the_least_distance():
    true = torch.tensor([[0.0], [1.0], [2.0]])
    # two patches of the second image want position 1: the one that loses less gives way
    embedding = torch.tensor([[[2.1], [0.2], [0.9]], [[1.0], [1.3], [0.0]]])
    assert assign_positions(embedding, true).tolist() == [[2, 0, 1], [1, 2, 0]]


def test_chains_show_the_shuffled_image_and_what_the_descent_makes_of_it():
    model, x = build(num_steps=2, step_size=50.0), images(2, torch.float32)
    samples = [DataSample(metainfo=dict(sample_idx=n)) for n in (3, 9)]
    chains = model.validation_chains(x, samples)
    predicted = model.predict(x, samples)
    for chain, sample, image in zip(chains, predicted, model.to_pixels(x), strict=True):
        clean = image.permute(1, 2, 0).numpy()
        assert np.array_equal(chain.clean, clean)
        shuffled = place_patches(image[None], sample.shuffled_positions[None], (4, 4))[0]
        assert np.array_equal(chain.images[0], shuffled.permute(1, 2, 0))
        assert chain.images.shape == (3, 32, 32, 3)
        for picture in chain.images:
            assert np.array_equal(np.sort(picture, axis=None), np.sort(clean, axis=None))
        own = torch.arange(16)
        for n, positions in ((0, sample.shuffled_positions), (-1, sample.restored_positions)):
            assert chain.accuracy[n] == (positions == own).double().mean()
        np.testing.assert_allclose(chain.energies[0], sample.energy_corrupted, rtol=1e-5)
        np.testing.assert_allclose(chain.clean_energy, sample.energy_clean, rtol=1e-5)
    assert draw_chains(chains).std() > 10
