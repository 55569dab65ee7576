"""Corruptions of every pixel: super-resolution, noise, colour (section 3.1 and Table 2)."""

from collections.abc import Sequence
from math import sqrt

import cv2
import numpy as np
import torch
from mmpretrain.registry import TRANSFORMS

from ..utils import checked_bool, checked_int, checked_numbers, checked_range
from .base import BaseCorruption, image_order

# γ and seed of an image that has no noise to come.
NO_NOISE = (1.0, 0.0)

# As in MMPretrain's ImageNet configs, in pixel units, RGB.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


def pixelate(image: np.ndarray, scale: int, antialias: bool) -> np.ndarray:
    """Reduce an image by exactly ``scale`` (bicubic) and enlarge it again (nearest neighbour).

    The result consists of constant ``scale`` x ``scale`` blocks. Where ``scale`` does not divide,
    the last row and column of blocks are cut off; the image is continued by its border pixels
    before it is reduced.

    Args:
        image: (H, W, 3) uint8.
        scale: Side of a block in pixels.
        antialias: Whether the bicubic kernel is widened by ``scale`` (Pillow's, as in torch), or
            reads 4 x 4 pixels whatever the scale (OpenCV).

    Returns:
        Array (H, W, 3) uint8.
    """
    height, width = image.shape[:2]
    rows, columns = -(-height // scale), -(-width // scale)
    padded = cv2.copyMakeBorder(
        image, 0, rows * scale - height, 0, columns * scale - width, cv2.BORDER_REPLICATE
    )
    if antialias:
        # Pillow's values, to one grey level, in a sixth of its time.
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
    """Compute ``√γ x + √(1−γ) ε`` for ``x = (image − mean) / std``, back in units of pixels.

    That is ``√γ image + (1 − √γ) mean + √(1−γ) std ε``.

    Args:
        image: (H, W, 3) uint8.
        gamma: γ in 0..1; 1 leaves the image, 0 leaves noise only.
        noise: ε, (H, W, 3) float32.
        mean, std: (3,) in pixel units, in the channel order of ``image``.

    Returns:
        Array (H, W, 3) float32, not clipped.
    """
    height, width, _ = image.shape
    # In rows of W * 3 numbers, because numpy is slow along an innermost axis of three.
    rows = noise.reshape(height, -1) * np.tile(sqrt(1 - gamma) * std, width).astype(np.float32)
    rows += np.tile((1 - sqrt(gamma)) * mean, width)
    rows += image.reshape(height, -1) * np.float32(sqrt(gamma))
    return rows.reshape(image.shape)


def checked_on_device(on_device: bool, seed: int | None) -> bool:
    """Return ``on_device``.

    Raises:
        TypeError: If it is not a bool.
        ValueError: If it comes with a seed, by which an image is to be the same on every device.
    """
    if checked_bool('on_device', on_device) and seed is not None:
        raise ValueError(
            'on_device=True is for training: with a seed an image is to be the same on every '
            f'device, so the loader corrupts it; got seed={seed!r}'
        )
    return on_device


@TRANSFORMS.register_module()
class SuperResolution(BaseCorruption):
    """Bicubic down by ``scale``, nearest neighbour back to full size; "SR s×" in Table 2.

    See :func:`pixelate` for sizes that ``scale`` does not divide. Nothing in it is random.

    Args:
        scale: Side of a constant block in pixels; the paper uses 8, 12, 14, 16, 24 and 32.
        antialias: True reduces as Pillow's bicubic, whose kernel covers the whole block. False
            reduces with OpenCV's, which reads 16 pixels and skips the others. The paper is silent.
        seed: See :class:`BaseCorruption`.

    Raises:
        TypeError, ValueError: If an option is of another type or outside its range.
    """

    def __init__(self, scale: int, antialias: bool = True, seed: int | None = None) -> None:
        super().__init__(seed)
        self.scale = checked_int('scale', scale, minimum=1)
        if not isinstance(antialias, bool):
            raise TypeError(f'antialias must be True or False, got {antialias!r}')
        self.antialias = antialias

    def corrupt(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return ``image``, (H, W, 3) uint8, in constant blocks."""
        return pixelate(image, self.scale, self.antialias)


@TRANSFORMS.register_module()
class GaussianNoise(BaseCorruption):
    """Mix the image with Gaussian noise: ``√γ x + √(1−γ) ε``, ε ~ N(0, I); "Denoising" in Table 2.

    x is the normalised image, so ``mean``, ``std`` and ``to_rgb`` must be those of the data
    preprocessor. The result is float32 in units of pixels, lies partly outside 0..255 and is never
    clipped: the preprocessor then yields exactly the formula.

    Drawing the noise and sending float32 costs a worker of the loader as much as loading and
    cropping the image. ``on_device=True`` draws γ and a seed only, and
    :class:`~mmebm.models.RestorationDataPreprocessor` adds the noise: of the same distribution,
    and reproducible from the seed of the run on devices of one type. The corrupted image is then
    still the clean one, uint8, and ``mean``, ``std`` and ``to_rgb`` are the preprocessor's own.
    ``img`` then has a third entry, γ and the seed, (2,) float64; γ = 1 is no noise. It is an input
    and no metadata, so that the noise cannot be lost silently: ``PackInputs`` drops metadata that
    it is not told to keep, and other preprocessors ignore it, but three inputs they refuse.

    Args:
        gamma_range: Smallest and largest γ, in 0..1; drawn uniformly for each image.
        mean: Mean pixel (R, G, B), in 0..255.
        std: Standard deviation of a pixel (R, G, B), in 0.001..255.
        to_rgb: True if images arrive as BGR, as in the data preprocessor.
        seed: See :class:`BaseCorruption`.
        on_device: Whether the data preprocessor adds the noise. Not together with a seed.

    Raises:
        TypeError, ValueError: If an option is of another type or outside its range.
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
        """Return the noisy ``image``, (H, W, 3) float32 in units of pixels; or a copy of it."""
        if self.on_device:
            return image.copy()
        gamma = rng.uniform(*self.gamma_range)
        noise = rng.standard_normal(image.shape, dtype=np.float32)
        return blend_with_noise(image, gamma, noise, self._mean, self._std)

    def apply(
        self, image: np.ndarray, rng: np.random.Generator
    ) -> tuple[list[np.ndarray], BaseCorruption]:
        """As in :class:`BaseCorruption`; with ``on_device`` a third array holds γ and a seed."""
        images, applied = super().apply(image, rng)
        if self.on_device:
            images.append(np.array([rng.uniform(*self.gamma_range), rng.integers(2**32)]))
        return images, applied


@TRANSFORMS.register_module()
class Colorization(BaseCorruption):
    """Take the colour away: a grey image in three equal channels; "Colorization" in Table 2.

    Nothing in it is random.

    Args:
        weights: Shares of red, green and blue in the grey value, in 0..1, with the sum 1. The paper
            is silent: the luma of ITU-R BT.601, as Pillow and OpenCV have it.
        to_rgb: True if images arrive as BGR, as in the data preprocessor.
        seed: See :class:`BaseCorruption`.

    Raises:
        TypeError, ValueError: If an option is of another type or outside its range.
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
            raise ValueError(f'weights must have the sum 1, got {weights!r}')
        self.to_rgb = to_rgb
        self._weights = image_order(self.weights, to_rgb)

    def corrupt(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the grey value of ``image``, rounded, as (H, W, 3) uint8."""
        return cv2.merge([cv2.transform(image, self._weights[None])] * 3)
