import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample
from skimage.metrics import peak_signal_noise_ratio

from mmebm.visualization import Chain, draw_chains, to_chains, to_uint8
from tests.backbones import build_algorithm


def chain(colours, clean=None, size=10):
    """A chain of images of one colour each."""
    images = np.stack([np.full((size, size, 3), c, dtype=np.float32) for c in colours])
    clean = None if clean is None else np.full((size, size, 3), clean, dtype=np.float32)
    return Chain(images, np.arange(len(images), dtype=float), clean=clean, title='Blur')


def test_psnr_of_known_errors():
    rng = np.random.default_rng(0)
    images, clean = rng.uniform(0, 255, (2, 5, 4, 3)), rng.uniform(0, 255, (5, 4, 3))
    expected = [peak_signal_noise_ratio(clean, image, data_range=255) for image in images]
    np.testing.assert_allclose(Chain(images, np.zeros(2), clean=clean).psnr, expected)
    assert np.isnan(Chain(images, np.zeros(2)).psnr).all()


def test_heat_is_where_the_first_and_the_last_image_differ():
    images = np.zeros((3, 10, 12, 3))
    images[1] = 50  # what a step changes and the next one takes back is not counted
    images[2, 2:5, 7:9] = 80
    heat = Chain(images, np.zeros(3)).heat
    assert heat.shape == (10, 12)
    assert heat[3, 7] == heat.max()
    assert heat[8, 1] == 0


def test_chains_of_a_restored_batch():
    model = build_algorithm(step_size=20.0).eval()
    inputs = list(torch.randn(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    names = ({}, dict(corruption='Colorization'), dict(corruption='GriddedMask'))
    samples = [DataSample(metainfo=name) for name in names]
    chains = to_chains(model, inputs, samples, num_steps=3)
    assert [chain.title for chain in chains] == ['', 'Colorization', 'GriddedMask']
    states = model.restore(inputs[0], 3)
    pixels = model.to_pixels(torch.stack([*states, inputs[1]])).permute(1, 0, 3, 4, 2)
    with torch.no_grad():
        energies = torch.stack([model.energy(x) for x in (*states, inputs[1])], 1)
    for chain, picture, energy in zip(chains, pixels, energies, strict=True):
        np.testing.assert_array_equal(np.stack([*chain.images, chain.clean]), picture)
        np.testing.assert_allclose([*chain.energies, chain.clean_energy], energy, rtol=1e-6)
        assert chain.accuracy is None
    untitled = to_chains(model, inputs)
    assert [(chain.title, len(chain.images)) for chain in untitled] == [('', 3)] * 3


def test_pixels_are_rounded_and_clipped_for_display_only():
    image = np.array([-40.0, 0.4, 0.6, 254.6, 300.0])
    assert to_uint8(image).tolist() == [0, 0, 1, 255, 255]
    assert image[0] == -40


def place_of(colour, drawing):
    """Left and top edge of the area of one colour, as shares of the drawing."""
    rows, columns = np.nonzero((drawing == colour).all(-1))
    return columns.min() / drawing.shape[1], rows.min() / drawing.shape[0]


RED, GREEN, BLUE, ORANGE = (200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 100, 0)


def test_original_corrupted_and_steps_stand_in_order():
    drawing = draw_chains([chain([GREEN, BLUE], clean=RED)])
    assert drawing.dtype == np.uint8
    lefts = [place_of(colour, drawing)[0] for colour in (RED, GREEN, BLUE)]
    np.testing.assert_allclose(lefts, [0, 1 / 3, 2 / 3], atol=0.02)


def test_chains_stand_below_or_beside_each_other():
    chains = [chain([RED, GREEN]), chain([BLUE, ORANGE])]
    below, beside = draw_chains(chains), draw_chains(chains, across=2)
    assert place_of(BLUE, below)[0] == place_of(RED, below)[0] < 0.05
    assert place_of(BLUE, below)[1] > 0.4
    assert place_of(BLUE, beside)[0] > 0.5
    assert place_of(BLUE, beside)[1] == place_of(RED, beside)[1] < 0.3


def test_without_an_original_the_captions_have_no_psnr():
    """With an original, each picture has one more line of text below it."""
    without = draw_chains([chain([GREEN, BLUE])])
    with_one = draw_chains([chain([GREEN, BLUE], clean=RED)])
    assert without.shape[1] * 3 == with_one.shape[1] * 2

    def ink_below(drawing):
        return (drawing[-45:] < 128).all(-1).sum()

    assert 0 < ink_below(without) < ink_below(with_one)


def test_refuses_nothing_to_draw():
    with pytest.raises(ValueError, match='at least one chain'):
        draw_chains([])
    with pytest.raises(ValueError, match='across must be ≥ 1, got 0'):
        draw_chains([chain([RED])], across=0)
