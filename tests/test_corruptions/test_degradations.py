import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmengine.dataset import default_collate
from mmpretrain.registry import MODELS, TRANSFORMS
from PIL import Image

from mmebm.corruptions import Colorization, GaussianNoise, SuperResolution
from mmebm.corruptions.degradations import IMAGENET_MEAN, IMAGENET_STD, pixelate


@pytest.mark.parametrize(
    ('antialias', 'expected'),
    [
        # Keys' kernel with a = -0.5, widened by 2, at distances 1/4, 1/4, 3/4, 5/4 from the left
        # block: weights 0.867, 0.867, 0.227, -0.070, so 100 * (0.227 - 0.070) / 1.891 = 8.3.
        (True, [8, 8, 92, 92]),
        # a = -0.75, four taps halfway between the pixels: -0.094, 0.594, 0.594, -0.094.
        (False, [0, 0, 109, 109]),
    ],
)
def test_super_resolution_literal(antialias, expected):
    image = np.zeros((2, 4, 3), np.uint8)
    image[:, 2:] = 100
    corrupted = SuperResolution(2, antialias)(dict(img=image))['img'][0]
    np.testing.assert_array_equal(corrupted, np.tile(np.reshape(expected, (1, 4, 1)), (2, 1, 3)))


@pytest.mark.parametrize('scale', [8, 14, 16, 32])
def test_super_resolution_antialias_is_pillows(scale):
    """Within one grey level, and mostly exactly if no value lies between two levels."""
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    small = Image.fromarray(image).resize((224 // scale,) * 2, Image.Resampling.BICUBIC)
    difference = pixelate(image, scale, True)[::scale, ::scale] - np.asarray(small, float)
    assert np.abs(difference).max() <= 1
    assert (difference != 0).mean() < 0.01


@pytest.mark.parametrize('antialias', [True, False])
@pytest.mark.parametrize('scale', [1, 2, 8, 100])
def test_super_resolution_makes_constant_blocks(scale, antialias, image):
    result = pixelate(image, scale, antialias)
    rows, columns = (np.arange(side) // scale * scale for side in image.shape[:2])
    np.testing.assert_array_equal(result, result[rows][:, columns])
    grey = np.full_like(image, 77)
    np.testing.assert_array_equal(pixelate(grey, scale, antialias), grey)


@pytest.mark.parametrize('to_rgb', [True, False])
@pytest.mark.parametrize(
    ('mean', 'std'), [(IMAGENET_MEAN, IMAGENET_STD), ((10, 120, 240), (2, 30, 100))]
)
def test_noise_formula_after_the_preprocessor(mean, std, to_rgb, image):
    """``√γ x + √(1−γ) ε`` holds in normalised RGB, with each channel's own mean and std."""
    noising = GaussianNoise((0.25, 0.9), mean, std, to_rgb=to_rgb, seed=0)
    pipeline = Compose([noising, TRANSFORMS.build(dict(type='PackInputs'))])
    batch = default_collate([pipeline(dict(img=image, sample_idx=i)) for i in range(3)])
    preprocessor = MODELS.build(
        dict(type='SelfSupDataPreprocessor', mean=mean, std=std, to_rgb=to_rgb)
    )
    corrupted, clean = preprocessor(batch)['inputs']
    order = [2, 1, 0] if to_rgb else [0, 1, 2]
    for i in range(3):
        rng = np.random.default_rng([0, i])
        gamma = rng.uniform(0.25, 0.9)
        noise = rng.standard_normal(image.shape, dtype=np.float32)
        noise = torch.from_numpy(noise).permute(2, 0, 1)[order]
        expected = gamma**0.5 * clean[i] + (1 - gamma) ** 0.5 * noise
        torch.testing.assert_close(corrupted[i], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(('to_rgb', 'blue_first'), [(True, True), (False, False)])
def test_colorization_literal(to_rgb, blue_first):
    """Pure red, green, blue; white; and 0.299 * 10 + 0.587 * 20 + 0.114 * 30 = 18.15."""
    rgb = [[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[255, 255, 255], [0, 0, 0], [10, 20, 30]]]
    image = np.array(rgb, np.uint8)
    image = image[..., ::-1].copy() if blue_first else image
    corrupted = Colorization(to_rgb=to_rgb)(dict(img=image))['img'][0]
    grey = np.array([[76, 150, 29], [255, 0, 18]])
    np.testing.assert_array_equal(corrupted, np.stack([grey] * 3, axis=2))
