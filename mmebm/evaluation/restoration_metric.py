from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmpretrain.registry import METRICS
from torch import Tensor

from .samples import by_corruption, required, summaries

DATA_RANGE = 255.0
GAIN_CEILING = 100.0


@METRICS.register_module()
class RestorationMetric(BaseMetric):
    """PSNR and SSIM of restored and of corrupted images, against the clean ones.

    Every data sample must hold ``clean``, ``corrupted`` and ``restored``, tensors (C, H, W) in
    pixel units (0..255; the latter two may leave that range, nothing is clipped). If it also holds
    ``corruption``, a name, the metrics are reported per corruption as well.

    Reported under ``restoration/``:

    - ``psnr``, ``psnr_corrupted`` in dB, from the squared error over all images together;
      infinite if it is zero;
    - ``ssim``, ``ssim_corrupted``: mean over the images;
    - ``<corruption>/psnr`` and so on: the same for the images of one corruption;
    - ``psnr_gain`` in dB: ``psnr`` minus ``psnr_corrupted``, mean over the corruptions; the metric
      for ``save_best``. Here PSNRs are capped at 100 dB (rounding to 8 bits alone gives 59), so
      that perfectly restored images do not make it infinite.

    All are NaN if a pixel is NaN or infinite. Images that their corruption has not changed, as a
    grey one by colorization, are left out, unless all are such.
    """

    default_prefix = 'restoration'

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the errors and SSIMs of each image; ValueError if its three shapes differ."""
        for sample in data_samples:
            clean, corrupted, restored = (
                # Contiguous: cuDNN convolves channels-last images in TF32, too coarse for SSIM.
                required(sample, key, type(self).__name__).detach().float().contiguous()
                for key in ('clean', 'corrupted', 'restored')
            )
            if clean.ndim != 3 or not clean.shape == corrupted.shape == restored.shape:
                raise ValueError(
                    'clean, corrupted and restored must have one shape (C, H, W), but got '
                    f'{tuple(clean.shape)}, {tuple(corrupted.shape)} and {tuple(restored.shape)}'
                )
            errors = [(image - clean).square().sum().item() for image in (restored, corrupted)]
            similarities = [ssim(image, clean) for image in (restored, corrupted)]
            figures = (sample.get('corruption'), clean.numel(), *errors, *similarities)
            self.results.append(figures)

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        """PSNR and SSIM of all images, and per corruption; empty without images."""
        results = [r for r in results if r[3] != 0] or results  # that were corrupted
        if not results:
            return {}
        each = map(_summary, by_corruption(results).values())
        pairs = [(summary['psnr'], summary['psnr_corrupted']) for summary in each]
        after, before = np.minimum(pairs, GAIN_CEILING).mean(0)
        return summaries(results, _summary) | dict(psnr_gain=float(after - before))


def psnr(squared_error: float, size: int) -> float:
    """Peak signal-to-noise ratio in dB, from the squared error summed over ``size`` values.

    For a data range of 255; infinity for no error, NaN for an error that is NaN or infinite.
    """
    if not np.isfinite(squared_error):
        return float('nan')
    return float(10 * np.log10(DATA_RANGE**2 * size / squared_error)) if squared_error else np.inf


def ssim(image: Tensor, clean: Tensor, rows: int = 256) -> float:
    """Structural similarity for a data range of 255, mean over the image.

    The window is a Gaussian of σ = 1.5 cut to 11 × 11 pixels. Images are mirrored at the border, so
    that it does not fit a side below 6 pixels; there σ shrinks with the side.

    Args:
        image, clean: (C, H, W) float in pixel units.
        rows: computed at a time, for large images take much memory.
    """
    # Imported here because it takes half a second, which not every start should pay.
    from torchmetrics.functional.image import structural_similarity_index_measure

    height, side, halo = clean.shape[1], min(clean.shape[1:]), 5
    sigma = 1.5 if side >= 6 else max(side - 1, 0.1) / 3.5  # torchmetrics cuts at 3.5 σ
    total = 0.0
    for first in range(0, height, rows):
        top, bottom = max(first - halo, 0), first + rows + halo
        _, similarity = structural_similarity_index_measure(
            image[None, :, top:bottom], clean[None, :, top:bottom], data_range=DATA_RANGE,
            sigma=sigma, return_full_image=True,
        )  # fmt: skip
        part = similarity[..., first - top : first - top + rows, :]
        total += part.double().sum().item()
    return total / clean.numel()


def _summary(images: Sequence[tuple]) -> dict[str, float]:
    _, sizes, errors, errors_corrupted, *similarities = zip(*images, strict=True)
    return {
        'psnr': psnr(sum(errors), sum(sizes)),
        'psnr_corrupted': psnr(sum(errors_corrupted), sum(sizes)),
        'ssim': float(np.mean(similarities[0])),
        'ssim_corrupted': float(np.mean(similarities[1])),
    }
