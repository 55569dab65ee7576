"""Normalisation, and the noise that ``GaussianNoise(on_device=True)`` leaves to the device."""

from math import sqrt
from typing import Any

import torch
from mmpretrain.models import SelfSupDataPreprocessor
from mmpretrain.registry import MODELS
from torch import Tensor

# B batch, C channels, H × W pixels.


def add_noise(images: Tensor, noise: Tensor) -> Tensor:
    """Compute ``√γ x + √(1−γ) ε`` for each image, ε ~ N(0, I).

    ε depends on the image's seed, its size and the type of the device alone: not on the rest of
    the batch, nor on the number of processes.

    Args:
        images: x, normalised, ``(B, C, H, W)`` float32.
        noise: γ in 0..1 and a seed in 0..2³²−1 of each image, ``(B, 2)``, on the CPU. γ = 1 leaves
            the image as it is.
    """
    images = images.clone()
    generator = torch.Generator(images.device)
    for image, (gamma, seed) in zip(images, noise.tolist(), strict=True):
        if gamma < 1:
            generator.manual_seed(int(seed))
            epsilon = torch.empty_like(image).normal_(generator=generator)
            image.mul_(sqrt(gamma)).add_(epsilon, alpha=sqrt(1 - gamma))
    return images


@MODELS.register_module()
class RestorationDataPreprocessor(SelfSupDataPreprocessor):
    """MMPretrain's normalisation, then the noise of ``GaussianNoise(on_device=True)``, if any.

    Inputs are ``[corrupted, clean]``, both ``(B, C, H, W)``, or ``[corrupted, clean, noise]`` with
    γ and a seed per image, ``(B, 2)``; what comes out is ``[corrupted, clean]``. Anything else goes
    through :class:`mmpretrain.models.SelfSupDataPreprocessor` as it is, as do the options.

    ``channel`` is the only one of grey images' three that the network gets, ``(B, 1, H, W)``.
    """

    def __init__(self, *args: Any, channel: int | None = None, **options: Any):
        super().__init__(*args, **options)
        self.channel = slice(None) if channel is None else slice(channel, channel + 1)

    def forward(self, data: dict, training: bool = False) -> dict[str, Any]:
        """Normalise a batch and add its noise, which is defined in normalised pixels.

        Raises:
            ValueError: there is noise to add, but no ``mean`` and ``std``.
        """
        inputs = data.get('inputs') if isinstance(data, dict) else None
        if isinstance(inputs, list):
            inputs = [x[:, self.channel] if x.ndim == 4 else x for x in inputs]
            data = {**data, 'inputs': inputs}
        if not (isinstance(inputs, list) and len(inputs) == 3 and inputs[2].ndim == 2):
            return super().forward(data, training)
        if not self._enable_normalize:
            raise ValueError(
                f'{type(self).__name__} needs mean and std to add the noise of '
                'GaussianNoise(on_device=True), got mean=None'
            )
        corrupted, clean, noise = inputs
        data = super().forward({**data, 'inputs': [corrupted, clean]}, training)
        corrupted, clean = data['inputs']
        return {**data, 'inputs': [add_noise(corrupted, noise), clean]}
