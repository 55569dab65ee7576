"""Chains: figures against independent ones, and what stands where in their pictures."""

import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample
from skimage.metrics import peak_signal_noise_ratio

from mmebm.models.chain import Chain, draw_chains, heat_map, to_uint8
from tests.backbones import build_algorithm

RED, GREEN, BLUE = (200, 0, 0), (0, 200, 0), (0, 0, 200)


def chain(colours, clean=None, size=10):
    """A chain of images of one colour each."""
    images = np.stack([np.full((size, size, 3), c, dtype=np.float32) for c in colours])
    clean = None if clean is None else np.full((size, size, 3), clean, dtype=np.float32)
    return Chain(images, np.arange(len(images), dtype=float), clean=clean, title='Blur')


@pytest.mark.parametrize('dtype', [np.float32, np.uint8])
def test_psnr_of_known_errors(dtype):
    rng = np.random.default_rng(0)
    *images, clean = rng.uniform(0, 255, (3, 5, 4, 3)).astype(dtype)
    expected = [
        peak_signal_noise_ratio(clean.astype(float), image.astype(float), data_range=255)
        for image in images
    ]
    np.testing.assert_allclose(Chain(images, np.zeros(2), clean=clean).psnr, expected)
    assert Chain([clean], np.zeros(1), clean=clean).psnr == np.inf
    assert np.isnan(Chain(images, np.zeros(2)).psnr).all()


def test_chains_of_a_restored_batch():
    model = build_algorithm(step_size=20.0).eval()
    inputs = list(torch.randn(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    samples = [DataSample(metainfo=dict(corruption=name)) for name in 'abc']
    chains = model.validation_chains(inputs, samples, num_steps=3)
    assert [chain.title for chain in chains] == ['a', 'b', 'c']
    states = model.restore(inputs[0], 3)
    pixels = model.to_pixels(torch.stack([*states, inputs[1]])).permute(1, 0, 3, 4, 2)
    with torch.no_grad():
        energies = torch.stack([model.energy(x) for x in (*states, inputs[1])], 1)
    for chain, picture, energy in zip(chains, pixels, energies, strict=True):
        np.testing.assert_array_equal(np.stack([*chain.images, chain.clean]), picture)
        np.testing.assert_allclose([*chain.energies, chain.clean_energy], energy, rtol=1e-6)
        assert chain.accuracy is None
    assert [len(chain.images) for chain in model.validation_chains(inputs)] == [3] * 3


def test_pixels_are_rounded_and_clipped_for_display_only():
    image = np.array([-40.0, 0.4, 0.6, 254.6, 300.0])[:, None]
    assert to_uint8(image)[:, 0].tolist() == [0, 0, 1, 255, 255]
    assert image[0] == -40


@pytest.mark.parametrize('size', [16, None])
def test_heat_against_a_gaussian_summed_by_hand(size):
    change = np.zeros((64, 80, 3))
    change[30, 40] = 2.0, 0.0, -2.0  # mean square 8/3
    sigma = (size or 64) / 16
    weights = np.exp(-(np.arange(-30, 31) ** 2) / (2 * sigma**2))
    for row, column in ((30, 40), (31, 38)):
        share = weights[row] * weights[column - 10] / weights.sum() ** 2
        expected = np.sqrt(8 / 3 * share)
        assert heat_map(change, size)[row, column] == pytest.approx(expected, rel=1e-3)
    # what a step changes and the next one takes back is not counted
    chain = Chain([np.ones_like(change), np.zeros_like(change), change + 1], np.zeros(3))
    np.testing.assert_allclose(chain.heat, heat_map(change), atol=1e-6)


def test_every_picture_of_every_chain_is_drawn():
    chains = [chain([RED, GREEN], clean=BLUE), chain([GREEN, BLUE], clean=RED)]
    drawing = draw_chains(chains)
    assert drawing.dtype == np.uint8
    counts = [(drawing == colour).all(-1).sum() for colour in (RED, GREEN, BLUE)]
    assert min(counts) > 0.9 * max(counts) > 10_000
    assert draw_chains(chains, across=2).shape[1] == 2 * drawing.shape[1]
    for wrong in (dict(chains=[]), dict(chains=chains, across=0)):
        with pytest.raises(ValueError, match=r'at least one|across must'):
            draw_chains(**wrong)
