import math

import numpy as np
import pytest
import torch
from mmpretrain.registry import METRICS
from torchmetrics.image import StructuralSimilarityIndexMeasure

import mmebm.evaluation  # noqa: F401  registers the metric


def sample(noise=10.0, residue=3.0, corruption=None, size=(24, 32), seed=0):
    """A smooth image, the same with noise of a given σ, and the same with part of that noise."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    rows = torch.linspace(40, 200, height)[:, None]
    clean = (rows + torch.linspace(0, 40, width)).expand(3, height, width).clone()
    direction = torch.randn(clean.shape, generator=generator)
    fields = dict(
        clean=clean, corrupted=clean + noise * direction, restored=clean + residue * direction
    )
    return fields if corruption is None else fields | dict(corruption=corruption)


def evaluate(samples, **options):
    metric = METRICS.build(dict(type='RestorationMetric', **options))
    for one in samples:
        metric.process(None, [one])
    return metric.evaluate(len(samples))


def reference_psnr(images, key):
    """Independent reference: 20 log10(255 / RMSE) over the pixels of all images."""
    errors = [(one[key].double() - one['clean'].double()).numpy().ravel() for one in images]
    return 20 * math.log10(255 / math.sqrt(np.mean(np.concatenate(errors) ** 2)))


def test_figures_against_independent_ones():
    noisy = [sample(10, 3, 'Noise', seed=1), sample(40, 5, 'Noise', size=(48, 16), seed=2)]
    masked = [sample(80, 90, 'Mask', seed=3)]
    metrics = evaluate(noisy + masked)
    gains = []
    for name, group in {'': noisy + masked, 'Noise/': noisy, 'Mask/': masked}.items():
        restored, corrupted = (reference_psnr(group, key) for key in ('restored', 'corrupted'))
        assert metrics[f'restoration/{name}psnr'] == pytest.approx(restored, abs=1e-3)
        assert metrics[f'restoration/{name}psnr_corrupted'] == pytest.approx(corrupted, abs=1e-3)
        for key, figure in dict(restored='ssim', corrupted='ssim_corrupted').items():
            values = []
            for one in group:
                ssim = StructuralSimilarityIndexMeasure(data_range=255.0)
                values.append(ssim(one[key][None], one['clean'][None]).item())
            expected = np.mean(values)
            assert metrics[f'restoration/{name}{figure}'] == pytest.approx(expected, abs=1e-5)
        gains.append(restored - corrupted)
    assert metrics['restoration/psnr_gain'] == pytest.approx(np.mean(gains[1:]), abs=1e-3)
    assert metrics['restoration/psnr_gain'] != pytest.approx(gains[0], abs=0.1)
    assert metrics['restoration/Mask/psnr'] < metrics['restoration/Mask/psnr_corrupted']
    assert len(metrics) == 3 * 4 + 1


def test_perfect_images_give_infinite_psnr_and_a_finite_gain():
    metrics = evaluate([sample(10, 0, 'Solved'), sample(10, 3, 'Improved')])
    assert metrics['restoration/Solved/psnr'] == math.inf
    assert metrics['restoration/Solved/ssim'] == pytest.approx(1)
    gains = [100 - metrics['restoration/Solved/psnr_corrupted'], 20 * math.log10(10 / 3)]
    assert metrics['restoration/psnr_gain'] == pytest.approx(np.mean(gains), abs=1e-3)


def test_images_that_were_not_corrupted_are_left_out():
    """Grey images, say, of a mixture with colorization."""
    changed, unchanged = sample(10, 3, 'Mask'), sample(0, 2, 'Colorization', seed=1)
    assert evaluate([changed, unchanged]) == evaluate([changed])
    assert evaluate([unchanged])['restoration/psnr_gain'] < 0  # there are no others


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_pixels_that_are_not_finite_make_figures_nan(value):
    broken = sample(corruption='Noise', seed=1)
    broken['restored'][0, 3, 4] = value
    metrics = evaluate([broken, sample(corruption='Mask', seed=2)])
    for name in ('psnr', 'ssim', 'psnr_gain', 'Noise/psnr', 'Noise/ssim'):
        assert math.isnan(metrics[f'restoration/{name}']), name
    for name in ('psnr_corrupted', 'Noise/psnr_corrupted', 'Mask/psnr', 'Mask/ssim'):
        assert math.isfinite(metrics[f'restoration/{name}']), name


@pytest.mark.parametrize('size', [(1, 1), (2, 9), (5, 5), (6, 40)])
def test_small_images_have_a_ssim(size):
    small = sample(20, 2, size=size)
    metrics = evaluate([small])
    assert 0 < metrics['restoration/ssim'] <= 1
    assert metrics['restoration/ssim_corrupted'] < metrics['restoration/ssim']


def test_no_images_no_figures():
    assert evaluate([]) == {}


def test_missing_field_and_unequal_shapes_are_named():
    incomplete = sample()
    del incomplete['restored']
    with pytest.raises(ValueError, match=r"RestorationMetric needs 'restored'.*'clean'"):
        evaluate([incomplete])
    unequal = sample() | dict(clean=torch.zeros(3, 4, 4))
    with pytest.raises(ValueError, match=r'\(3, 4, 4\), \(3, 24, 32\) and \(3, 24, 32\)'):
        evaluate([unequal])
