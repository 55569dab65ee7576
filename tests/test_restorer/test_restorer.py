"""Images of any size, restored in tiles; patches, sorted."""

import tracemalloc

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from mmebm.datasets import Picture, UnreadableImageError, read_picture
from mmebm.restorer import Damage, Restorer, mask_of, ssim_of
from tests.zero_head import CONVNEXT, MEAN, SIZE, STD, VIT, save_network, save_sorting

NOISE = dict(type='GaussianNoise', gamma_range=(0.5, 0.5))


def restorer(path, **options) -> Restorer:
    save_network(path, **options)
    return Restorer(path, device='cpu')


@pytest.fixture(scope='module')
def untrained(tmp_path_factory):
    return restorer(tmp_path_factory.mktemp('zero') / 'zero.pth')


@pytest.fixture(scope='module')
def random(tmp_path_factory):
    return restorer(tmp_path_factory.mktemp('random') / 'random.pth', zero=False, num_steps=2)


def noise(height=37, width=45):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize('size', [(45, 37), (SIZE, SIZE), (1, 1), (3, 50), (100, 17)])
def test_zero_head_gives_back_every_byte(untrained, size):
    image = noise(*size)
    chain = untrained(image)
    assert len(chain.images) == 3
    for x in chain.images:
        np.testing.assert_array_equal(x, image[..., ::-1])
    assert chain.energies.tolist() == [0, 0, 0]


@pytest.mark.parametrize('to_rgb', [True, False])
def test_one_tile_is_restored_as_by_the_algorithm(tmp_path, to_rgb):
    """A 16² image: the same normalisation, channels, steps, energies."""
    whole = restorer(tmp_path / 'a.pth', zero=False, to_rgb=to_rgb, num_steps=2)
    image = noise(SIZE, SIZE)
    chain = whole(image)
    pixels = image[..., ::-1] if to_rgb else image
    x = (torch.from_numpy(pixels - MEAN) / torch.tensor(STD)).float().permute(2, 0, 1)[None]
    states = whole.model.restore(x)
    expected = states[:, 0].permute(0, 2, 3, 1).numpy() * STD + MEAN
    expected = expected if to_rgb else expected[..., ::-1]
    np.testing.assert_allclose(chain.images, expected, atol=1e-3 * np.abs(expected).max())
    assert np.abs(chain.images[-1] - chain.images[0]).max() > 1
    with torch.no_grad():
        energies = [whole.model.energy(x).item() for x in states]
    np.testing.assert_allclose(chain.energies, energies, rtol=1e-3)


@pytest.mark.parametrize('num_steps', [0, 1, 3])
def test_every_step_is_that_of_a_restoration_of_so_many_steps(random, num_steps):
    image, damage = noise(20, 31), Damage(corruption=NOISE, seed=1)
    chain = random(image, damage, num_steps)
    assert len(chain.images) == len(chain.energies) == num_steps + 1
    assert chain.title == 'GaussianNoise'
    assert chain.images[0].dtype == np.float32
    np.testing.assert_array_equal(chain.clean, image[..., ::-1])
    assert chain.clean_energy == pytest.approx(random(image, None, 0).energies[0], rel=1e-5)
    for n in range(num_steps + 1):
        short = random(image, damage, n, every_step=False)
        assert len(short.images) == 2
        assert np.isnan(short.energies).all()
        np.testing.assert_array_equal(short.images[0], chain.images[0])
        np.testing.assert_allclose(short.images[-1], chain.images[n], rtol=1e-5, atol=1e-3)
        expected = peak_signal_noise_ratio(
            chain.clean.astype(float), chain.images[n].astype(float), data_range=255
        )
        assert chain.psnr[n] == pytest.approx(expected, abs=1e-3)
    with pytest.raises(ValueError, match='num_steps must be an integer ≥ 0, got -1'):
        random(image, None, -1)


def test_batches_of_tiles_change_nothing(random, tmp_path):
    save_network(tmp_path / 'a.pth', zero=False, num_steps=2)
    single, done = Restorer(tmp_path / 'a.pth', device='cpu', batch_size=1), []
    expected = single(noise(), None, 1, on_tiles=lambda *numbers: done.append(numbers)).images
    tiles = len(single.tiling(37, 45))
    assert done == [(n + 1, 2 * tiles) for n in range(2 * tiles)]  # one step more, for its energy
    # Float32 through a network that amplifies: errors are of the largest change, not of each one.
    found = random(noise(), None, 1).images[1]
    np.testing.assert_allclose(found, expected[1], atol=1e-4 * np.abs(expected[1]).max())


def pixel_energy(images):
    """The mean of f(pixel): its gradient is the same function of the pixel at every place."""
    return (images.sin() + images**2).mean((1, 2, 3))


@pytest.mark.parametrize('any_size', [False, True])
@pytest.mark.parametrize('size', [(40, 61), (7, 9)])
def test_position_independent_descent_has_no_seams(random, any_size, size, monkeypatch):
    """Tiles of 16² and the whole image give the same; the step does not shrink with size."""
    monkeypatch.setattr(random.model, 'energy', pixel_energy)
    monkeypatch.setattr(random, 'any_size', any_size)
    monkeypatch.setattr(random, '_align', 32 if any_size else 4)
    image = noise(*size)
    chain = random(image, None, 2)
    x = start = random.to_network(image[None])[0].double()
    alpha = random.model.step_size.double()
    for _ in range(2):
        x = x - alpha * (x.cos() + 2 * x) / (3 * SIZE * SIZE)
    change = ((x - start) * random.model.data_preprocessor.std.double()).permute(1, 2, 0).numpy()
    found = chain.images[2] - chain.images[0]
    np.testing.assert_allclose(found, change, rtol=1e-4, atol=1e-3)


def test_networks_of_any_size_get_the_whole_image_others_tiles_of_theirs(tmp_path, untrained):
    network = restorer(tmp_path / 'a.pth', backbone=CONVNEXT)
    assert network.any_size
    assert len(network.tiling(100, 301)) == 1
    assert len(network.tiling(600, 301)) == 2
    assert network.tiling(600, 301).tile == (512, 320)
    image = noise(33, 50)
    np.testing.assert_array_equal(network(image).images[-1], image[..., ::-1])

    assert not untrained.any_size
    tiling = untrained.tiling(40, 100)
    assert tiling.tile == (VIT['img_size'],) * 2
    assert tiling.align == VIT['patch_size']
    assert len(tiling) > 1


def test_a_line_of_pixels_is_not_blown_up_to_a_wide_tile(untrained, monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 10_000)
    assert (untrained(np.zeros((1, 500, 3), np.uint8)).images[-1] == 0).all()
    with pytest.raises(UnreadableImageError, match='limit'):
        untrained(np.zeros((1, 1000, 3), np.uint8))


def test_memory_beside_the_image_does_not_grow_with_the_tiles(untrained):
    """An image twice as high takes memory for itself and the difference, not for its tiles."""

    def peak(height):
        image = np.zeros((height, 128, 3), np.uint8)
        tracemalloc.start()
        untrained(image, None, 1, every_step=False)
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest - 4 * image.size  # the difference, float32

    assert peak(1024) < 1.1 * peak(256) + 100_000  # its tiles take 1.2 MB for each copy


def test_mask_changes_only_masked_pixels(random, untrained):
    image, mask = noise(), np.zeros((37, 45), bool)
    mask[5:20, 30:44] = True
    for every_step in (True, False):
        chain = random(image, Damage(mask=mask), every_step=every_step)
        for x in chain.images:
            np.testing.assert_array_equal(x[~mask], image[..., ::-1][~mask])
        assert np.abs(chain.images[-1] - chain.images[0])[mask].max() > 0.1
    # an untrained network leaves the blank pixels of its training, here RGB 10 20 30
    assert (untrained(image, Damage(mask=mask)).images[-1][mask] == (10, 20, 30)).all()
    with pytest.raises(ValueError, match='45 × 37'):
        untrained(image, Damage(mask=mask.T))


def test_upscale_enlarges_in_blocks_and_colorize_starts_from_grey(untrained):
    image, alpha = noise(11, 20), noise(11, 20)[..., 0]
    chain = untrained(Picture(image, alpha), Damage(upscale=3))
    assert chain.title == 'upscale 3×'
    assert chain.picture.alpha.shape == (33, 60)
    for row, column in ((0, 0), (2, 1)):
        np.testing.assert_array_equal(chain.images[-1][row::3, column::3], image[..., ::-1])
    with pytest.raises(UnreadableImageError, match='limit'):
        untrained(image, Damage(upscale=1000))

    grey = Picture(image, grey=True, icc_profile=b'grey')
    chain = untrained(grey, Damage(colorize=True))
    assert (chain.picture.grey, chain.picture.icc_profile) == (False, None)
    luma = image @ (0.114, 0.587, 0.299)
    np.testing.assert_allclose(chain.images[0], np.dstack([luma] * 3), atol=1)
    with pytest.raises(ValueError, match='one kind of damage at a time, got upscale, colorize'):
        Damage(upscale=2, colorize=True)


def test_a_corruption_is_drawn_by_seed_and_index(untrained):
    starts = [
        untrained(noise(), Damage(corruption='config', seed=seed, index=index), 0).images[0]
        for seed, index in ((1, 0), (1, 0), (1, 1), (2, 0))
    ]
    assert [(start == starts[0]).all() for start in starts] == [True, True, False, False]


@pytest.mark.parametrize('size', [(300, 40), (600, 30), (37, 45), (700, 15), (257, 9)])
def test_ssim_in_bands_is_that_of_the_whole(size):
    from torchmetrics.functional.image import structural_similarity_index_measure as reference

    rng = np.random.default_rng(0)
    clean = np.linspace(0, 190, size[0])[:, None, None] + rng.uniform(0, 60, (*size, 3))
    image = clean + rng.normal(scale=np.linspace(1, 40, size[0])[:, None, None], size=clean.shape)
    pair = [torch.from_numpy(x.astype(np.float32)).permute(2, 0, 1)[None] for x in (image, clean)]
    expected = reference(*pair, data_range=255.0, sigma=1.5).item()
    assert ssim_of(image, clean) == pytest.approx(expected, abs=1e-5)


def test_what_a_person_means_by_a_mask(tmp_path):
    hidden = np.zeros((30, 40), bool)
    hidden[3:9, 5:20] = True
    paint = np.full((30, 40, 3), 90, np.uint8)
    for picture in (
        hidden.astype('u1'),
        np.where(hidden, 100, 20).astype('u1'),
        np.dstack([noise(30, 40), 255 * ~hidden]).astype('u1'),  # erased
        np.dstack([paint, 255 * hidden]).astype('u1'),  # painted on a layer
    ):
        Image.fromarray(picture).save(tmp_path / 'mask.png')
        np.testing.assert_array_equal(mask_of(read_picture(tmp_path / 'mask.png')), hidden)


def test_sorting_shuffles_and_moves_whole_patches(tmp_path):
    save_sorting(tmp_path / 'sorting.pth')
    sort = Restorer(tmp_path / 'sorting.pth', device='cpu')
    assert sort.sorts
    image = noise(SIZE, SIZE + 4)
    chain = sort(image, Damage(index=3), 3)
    np.testing.assert_array_equal(chain.clean, image[:, 2:-2, ::-1])  # cropped
    assert len(chain.images) == len(chain.accuracy) == 4
    for x in chain.images:
        np.testing.assert_allclose(
            np.sort(x, axis=None), np.sort(chain.clean, axis=None), atol=1e-4
        )
    assert (chain.images[0] != chain.clean).any()
    assert (chain.images[0] != sort(image, Damage(index=4), 0).images[0]).any()
    with pytest.raises(ValueError, match='sorts shuffled patches'):
        sort(image, Damage(upscale=2))


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        ("model = dict(type='EnergyInpaintingAlgorithm')", '--energy inpainting, gives'),
        ("model = dict(type='MAE')", 'trained with MAE, gives features and restores nothing'),
        ('import os', 'import os'),
        ("model = dict(type='os.system')", 'os.system'),
        (None, 'no config'),
    ],
)
def test_other_checkpoints_are_refused_and_not_executed(tmp_path, config, message):
    meta = {} if config is None else dict(meta=dict(cfg=config))
    torch.save(dict(state_dict={}, **meta), tmp_path / 'other.pth')
    with pytest.raises(ValueError, match=message):
        Restorer(tmp_path / 'other.pth')


def test_the_network_that_comes_with_mmebm():
    restorer, photograph = Restorer(device='cpu'), skimage.data.astronaut()[::4, ::4, ::-1]
    for corruption, gain in (
        (dict(type='GaussianNoise', gamma_range=(0.8, 0.8)), 3),
        (dict(type='GriddedMask', patch_size=4, ratio=0.5), 5),
        (dict(type='SuperResolution', scale=4), 1),
    ):
        psnr = restorer(photograph, Damage(corruption=corruption)).psnr
        assert psnr[-1] > psnr[0] + gain
    with pytest.raises(ValueError, match='colorize'):
        restorer(photograph, Damage(colorize=True))
