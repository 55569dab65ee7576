"""What is wrong with an image, and how it therefore enters the network."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from mmengine.config import DictAction

from ..corruptions import BaseCorruption, Colorization, MixedCorruption
from ..corruptions.base import image_order
from ..corruptions.masking import BLANK
from ..models.chain import to_uint8
from ..utils import checked_int
from .pictures import Picture, check_pixels, in_colour


@dataclass(eq=False)
class Damage:
    """What is wrong with an image, of which at most one; if nothing, it enters as it is: noisy.

    Attributes:
        mask: bool ``(H, W)``, True where pixels are missing: they enter blank, as in training, and
            no other pixel changes.
        upscale: K ≥ 1: the image enters enlarged K times, in constant K × K blocks.
        colorize: the image enters as grey in three channels.
        corruption: a corruption, or its config, to apply to a clean image, so that the restoration
            can be measured; ``'config'`` takes the one that the network was validated with.
        seed: of the corruption, ≥ 0.
        index: number of the image, ≥ 0; each number is corrupted, or shuffled, differently.

    Raises:
        TypeError, ValueError: more than one kind is given, or a number is out of range.
    """

    mask: np.ndarray | None = None
    upscale: int | None = None
    colorize: bool = False
    corruption: dict | BaseCorruption | str | None = None
    seed: int = 0
    index: int = 0

    def __post_init__(self) -> None:
        if len(self.kinds) > 1:
            raise ValueError(f'only one kind of damage at a time, got {", ".join(self.kinds)}')
        if self.upscale is not None:
            self.upscale = checked_int('upscale', self.upscale, minimum=1)

    @property
    def kinds(self) -> list[str]:
        """The names of what is given: one or none."""
        given = [n for n in ('mask', 'upscale', 'corruption') if getattr(self, n) is not None]
        return given + ['colorize'] * self.colorize


def damaged(
    picture: Picture, damage: Damage, validated_with: dict | None, to_rgb: bool
) -> tuple[Picture, np.ndarray | None, str]:
    """The picture as it enters a network; masked pixels filled as in its validation.

    Returns:
        The damaged picture; the clean pixels if a corruption was applied; and its class name, or
        ``'mask'``, ``'upscale K×'``, ``'grey'`` or ``''``.
    """
    pixels = picture.pixels
    height, width = pixels.shape[:2]
    if damage.mask is not None:
        if not damage.mask.any():
            raise ValueError('the mask hides nothing: white means missing')
        if damage.mask.shape != (height, width):
            h, w = damage.mask.shape
            raise ValueError(f'the mask has {w} × {h} pixels, the image {width} × {height}')
        fills = [
            options['fill'] for options in leaves(validated_with).values() if 'fill' in options
        ]
        pixels = pixels.copy()
        pixels[damage.mask] = image_order([*fills, BLANK][0], to_rgb)
        return replace(picture, pixels=pixels), None, 'mask'
    if damage.upscale is not None:
        factor = damage.upscale
        check_pixels(height * factor, width * factor)
        alpha = None if picture.alpha is None else _enlarged(picture.alpha, factor)
        picture = replace(picture, pixels=_enlarged(pixels, factor), alpha=alpha)
        return picture, None, f'upscale {factor}×'
    if damage.colorize:
        grey = Colorization(to_rgb=True).corrupt(to_uint8(pixels), np.random.default_rng(0))
        return in_colour(picture, grey), None, 'grey'
    if damage.corruption is None:
        return picture, None, ''
    corruption = damage.corruption
    if isinstance(corruption, str):
        if corruption != 'config' or validated_with is None:
            raise ValueError(f'the network was validated without a corruption, got {corruption!r}')
        corruption = validated_with
    clean = to_uint8(pixels)
    results = dict(img=clean, sample_idx=damage.index)
    results = MixedCorruption([corruption], seed=damage.seed)(results)
    return in_colour(picture, results['img'][0]), clean, results['corruption']


def leaves(corruption: dict | None) -> dict[str, dict]:
    """The corruptions inside the config of one, or of a mixture: options by name."""
    if corruption is None:
        return {}
    if corruption['type'] == 'MixedCorruption':
        return {k: v for part in corruption['corruptions'] for k, v in leaves(part).items()}
    return {
        corruption['type']: {k: v for k, v in corruption.items() if k not in ('type', 'on_device')}
    }


def mask_of(picture: Picture) -> np.ndarray:
    """What a person means by a mask: bool ``(H, W)``, True where pixels are missing.

    Where parts are transparent: what is opaque, if of one colour (painted on a layer), else what is
    transparent (erased from a photograph). Else the brighter of two values, or of the range.
    """
    if picture.alpha is not None:
        opaque = picture.alpha == picture.alpha.max()
        painted = np.ptp(picture.pixels[opaque], axis=0).max() <= 8
        return picture.alpha >= 128 if painted else picture.alpha < 128
    grey = picture.pixels.mean(2)
    values = np.unique(grey)
    return grey == values[1] if len(values) == 2 else grey >= 128


def parse_corruption(words: Sequence[str]) -> BaseCorruption | str:
    """Build the corruption ``NAME KEY=VALUE ...``; ``config`` alone stays as it is."""
    name, *pairs = words
    if name == 'config' and not pairs:
        return name
    options = {}
    for pair in pairs:
        key, sign, value = pair.partition('=')
        if not (key and sign):
            raise ValueError(f'an option of a corruption is KEY=VALUE, got {pair!r}')
        options[key] = DictAction._parse_iterable(value)
    try:
        return MixedCorruption([dict(type=name, **options)]).corruptions[0]
    except TypeError as error:  # of Python too, where an option is missing or unknown
        raise TypeError(f'corruption {name}: {error}') from error


def _enlarged(image: np.ndarray, factor: int) -> np.ndarray:
    """Enlarge K times by nearest neighbour: ``(H, W, ...)`` → ``(K·H, K·W, ...)``."""
    return image.repeat(factor, axis=0).repeat(factor, axis=1)
