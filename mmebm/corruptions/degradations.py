"""Corruptions of every pixel: super-resolution, noise, colour (section 3.1 and Table 2)."""

from collections.abc import Sequence
from math import sqrt

import cv2
import numpy as np
import torch
from mmpretrain.registry import TRANSFORMS

from ..utils import checked_bool, checked_int, checked_numbers, checked_range
from .base import BaseCorruption, checked_on_device, image_order

# As in MMPretrain's ImageNet configs, in pixel units, RGB.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


def pixelate(image: np.ndarray, scale: int, antialias: bool) -> np.ndarray:
    """Reduce an image by exactly ``scale`` (bicubic) and enlarge it again (nearest neighbour).

    If ``scale`` does not divide the size, the image is first padded by repeating its border pixels,
    and the result is cut to size.

    Args:
        image: (H, W, 3) uint8.
        scale: Side of a block in pixels.
        antialias: Whether the bicubic kernel grows with ``scale`` (as in Pillow and torch) or
            always reads 4 x 4 pixels (as in OpenCV).

    Returns:
        Array (H, W, 3) uint8 of constant ``scale`` x ``scale`` blocks.
    """
    height, width = image.shape[:2]
    rows, columns = -(-height // scale), -(-width // scale)
    padded = cv2.copyMakeBorder(
        image, 0, rows * scale - height, 0, columns * scale - width, cv2.BORDER_REPLICATE
    )
    if antialias:
        # Within one grey level of Pillow, in a sixth of its time.
        small = torch.nn.functional.interpolate(
            torch.from_numpy(padded).permute(2, 0, 1)[None],
            size=(rows, columns),
            mode='bicubic',
            antialias=True,
        )
        small = small[0].permute(1, 2, 0).numpy()
    else:
        small = cv2.resize(padded, (columns, rows), interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(small.repeat(scale, axis=1).repeat(scale, axis=0)[:height, :width])


def blend_with_noise(
    image: np.ndarray, gamma: float, noise: np.ndarray, mean: np.ndarray, std: np.ndarray
) -> np.ndarray:
    """Compute ``√γ x + √(1−γ) ε`` for ``x = (image − mean) / std``, in pixel units, not clipped.

    Args:
        image: (H, W, 3) uint8.
        gamma: γ in 0..1; 1 is the image itself, 0 is noise only.
        noise: ε, (H, W, 3) float32.
        mean, std: (3,) in pixel units, in the channel order of ``image``.
    """
    height, width, _ = image.shape
    # On rows of W * 3 numbers, because numpy is slow along an innermost axis of length 3.
    rows = noise.reshape(height, -1) * np.tile(sqrt(1 - gamma) * std, width).astype(np.float32)
    rows += np.tile((1 - sqrt(gamma)) * mean, width)
    rows += image.reshape(height, -1) * np.float32(sqrt(gamma))
    return rows.reshape(image.shape)


@TRANSFORMS.register_module()
class SuperResolution(BaseCorruption):
    """Bicubic down by ``scale``, nearest neighbour back to full size; "SR s×" in Table 2.

    See :func:`pixelate` for image sizes that ``scale`` does not divide. Deterministic.

    Args:
        scale: Side of a constant block in pixels; the paper uses 8, 12, 14, 16, 24 and 32.
        antialias: True: Pillow's bicubic, whose kernel covers the whole block. False: OpenCV's,
            which reads 16 pixels and skips the others. The paper does not say which.
        seed: See :class:`BaseCorruption`.
    """

    def __init__(self, scale: int, antialias: bool = True, seed: int | None = None) -> None:
        super().__init__(seed)
        self.scale = checked_int('scale', scale, minimum=1)
        self.antialias = checked_bool('antialias', antialias)

    def corrupt(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return ``image``, (H, W, 3) uint8, in constant blocks."""
        return pixelate(image, self.scale, self.antialias)


@TRANSFORMS.register_module()
class GaussianNoise(BaseCorruption):
    """Mix the image with Gaussian noise: ``√γ x + √(1−γ) ε``, ε ~ N(0, I); "Denoising" in Table 2.

    x is the normalised image, so ``mean``, ``std`` and ``to_rgb`` must be those of the data
    preprocessor. The result is float32 in pixel units, leaves 0..255 and is never clipped, so that
    the preprocessor yields exactly the formula.

    Drawing the noise costs a worker as much as loading and cropping the image. With
    ``on_device=True`` it draws only γ and a seed, and
    :class:`~mmebm.models.RestorationDataPreprocessor` adds the noise, by its own ``mean``, ``std``
    and ``to_rgb``: of the same distribution, and reproducible on devices of the same type. ``img``
    then holds a copy of the clean image, uint8, the clean one, and γ and the seed, (2,) float64;
    γ = 1 is no noise. A preprocessor that cannot add it raises on three inputs.

    Args:
        gamma_range: Smallest and largest γ, in 0..1; drawn uniformly for each image.
        mean: Mean pixel (R, G, B), in 0..255.
        std: Standard deviation of a pixel (R, G, B), in 0.001..255.
        to_rgb: As in the data preprocessor: True if images arrive as BGR.
        seed: See :class:`BaseCorruption`.
        on_device: Whether the data preprocessor adds the noise; needs ``seed=None``.
    """

    dtype = np.float32

    def __init__(
        self,
        gamma_range: tuple[float, float] = (0, 1),
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        to_rgb: bool = True,
        seed: int | None = None,
        on_device: bool = False,
    ) -> None:
        super().__init__(seed)
        self.on_device = checked_on_device(on_device, seed)
        if on_device:
            self.dtype = np.uint8
        self.gamma_range = checked_range('gamma_range', gamma_range, 0, 1)
        self.mean = checked_numbers('mean', mean, 3, 0, 255)
        self.std = checked_numbers('std', std, 3, 0.001, 255)
        self.to_rgb = to_rgb
        self._mean = image_order(self.mean, to_rgb)
        self._std = image_order(self.std, to_rgb)

    def corrupt(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the noisy ``image``, (H, W, 3) float32 in pixel units; a copy if ``on_device``."""
        if self.on_device:
            return image.copy()
        gamma = rng.uniform(*self.gamma_range)
        noise = rng.standard_normal(image.shape, dtype=np.float32)
        return blend_with_noise(image, gamma, noise, self._mean, self._std)

    def apply(
        self, image: np.ndarray, rng: np.random.Generator
    ) -> tuple[list[np.ndarray], BaseCorruption]:
        """As in :class:`BaseCorruption`; with ``on_device`` a third array holds γ and the seed."""
        images, applied = super().apply(image, rng)
        if self.on_device:
            images.append(np.array([rng.uniform(*self.gamma_range), rng.integers(2**32)]))
        return images, applied


@TRANSFORMS.register_module()
class Colorization(BaseCorruption):
    """Remove the colour: a grey image in three equal channels; "Colorization" in Table 2.

    Args:
        weights: Of red, green and blue in the grey value, each in 0..1, summing to 1. The paper
            gives none; the default is the luma of ITU-R BT.601, as in Pillow and OpenCV.
        to_rgb: As in the data preprocessor: True if images arrive as BGR.
        seed: See :class:`BaseCorruption`.
    """

    def __init__(
        self,
        weights: Sequence[float] = (0.299, 0.587, 0.114),
        to_rgb: bool = True,
        seed: int | None = None,
    ) -> None:
        super().__init__(seed)
        self.weights = checked_numbers('weights', weights, 3, 0, 1)
        if abs(sum(self.weights) - 1) > 1e-6:
            raise ValueError(f'weights must sum to 1, got {weights!r}')
        self.to_rgb = to_rgb
        self._weights = image_order(self.weights, to_rgb)

    def corrupt(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the grey value of ``image``, rounded, as (H, W, 3) uint8."""
        return cv2.merge([cv2.transform(image, self._weights[None])] * 3)
