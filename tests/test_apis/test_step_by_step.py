"""Every step of a restoration: the same pixels as :func:`restore_image`, and figures of each."""

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from mmebm.apis import Damage, Picture, WholeImageRestorer, restore_image, restore_step_by_step
from mmebm.utils.heat_map import heat_map
from tests.zero_head import save_network

NOISE = dict(type='GaussianNoise', gamma_range=(0.5, 0.5))


@pytest.fixture(scope='module')
def restorer(tmp_path_factory):
    path = tmp_path_factory.mktemp('network') / 'net.pth'
    save_network(path, zero=False)
    return WholeImageRestorer(path)


@pytest.fixture
def picture():
    return Picture(np.random.default_rng(0).integers(0, 256, (20, 31, 3), dtype=np.uint8))


@pytest.mark.parametrize('num_steps', [0, 1, 3])
def test_each_step_is_that_of_a_restoration_of_so_many_steps(restorer, picture, num_steps):
    damage = Damage(corruption=NOISE, seed=1)
    steps = restore_step_by_step(restorer, picture, damage, num_steps)
    assert steps.num_steps == num_steps
    assert steps.damage == 'GaussianNoise'
    assert len(steps.energies) == len(steps.heats) == num_steps + 1
    assert steps.energies[0] == pytest.approx(restorer.energy(steps.start), abs=1e-5)
    longer = restore_image(restorer, picture, damage, num_steps + 1)
    assert steps.energies == pytest.approx(longer.energies, abs=1e-5)
    for n in range(num_steps + 1):
        one = restore_image(restorer, picture, damage, n)
        np.testing.assert_array_equal(steps.start, one.start.pixels)
        np.testing.assert_allclose(steps.differences[n], one.difference, atol=1e-4)
        assert steps.psnr(n) == pytest.approx(one.figures()['psnr'], abs=1e-3)
        assert steps.psnr(n) == pytest.approx(
            peak_signal_noise_ratio(
                picture.pixels.astype(float), steps.start + steps.differences[n], data_range=255
            ),
            abs=1e-3,
        )
        assert steps.ssim(n) == pytest.approx(one.figures()['ssim'], abs=1e-4)


def test_heat_is_where_the_next_step_goes(restorer, picture):
    steps = restore_step_by_step(restorer, picture, num_steps=2)
    for n in range(2):
        change = steps.differences[n + 1] - steps.differences[n]
        np.testing.assert_allclose(steps.heats[n], heat_map(change, 16), atol=1e-5)
    assert steps.heats[2].max() > 0
    assert np.isnan(steps.psnr(1))  # what a clean image would be is not known
    assert np.isnan(steps.ssim(1))


def test_a_frame_is_rgb_bytes(restorer, picture):
    steps = restore_step_by_step(restorer, picture, num_steps=1)
    np.testing.assert_array_equal(steps.frame(0), picture.pixels[..., ::-1])
    expected = np.clip(np.rint(picture.pixels + steps.differences[1]), 0, 255)
    np.testing.assert_array_equal(steps.frame(1), expected[..., ::-1])


def test_a_mask_protects_the_rest_and_the_picture_is_what_it_hides(restorer, picture):
    mask = np.zeros((20, 31), bool)
    mask[3:9, 4:20] = True
    steps = restore_step_by_step(restorer, picture, Damage(mask=mask), 2)
    for n in range(3):
        assert (steps.differences[n][~mask] == 0).all()
        assert (steps.heats[n][~mask] == 0).all()
    assert np.abs(steps.differences[2][mask]).max() > 0
    np.testing.assert_array_equal(steps.clean, picture.pixels)
    assert (steps.start[mask] == steps.start[3, 4]).all()
    assert np.isfinite(steps.psnr(2))


def test_steps_are_checked(restorer, picture):
    with pytest.raises(ValueError, match=r'num_steps must be an integer ≥ 0, got -1'):
        restore_step_by_step(restorer, picture, num_steps=-1)
