"""One of several corruptions per image (section 3.2 and Table 3)."""

from collections.abc import Sequence

import numpy as np
from mmpretrain.registry import TRANSFORMS

from ..utils import checked_numbers, nearest_name
from .base import BaseCorruption
from .degradations import NO_NOISE, GaussianNoise, checked_on_device


@TRANSFORMS.register_module()
class MixedCorruption(BaseCorruption):
    """Draw one of several corruptions for each image.

    The images of a batch must stack, so all corrupted ones are float32 if any of the corruptions
    returns float32 (noise, unless ``on_device``), else uint8. Clean images stay uint8. A mixture
    may contain mixtures.

    Args:
        corruptions: Configs of transforms, such as ``dict(type='Colorization')``, or corruptions.
        probs: Probability of each, in 0..1, summing to 1; None is uniform, as in the paper.
        seed: See :class:`BaseCorruption`. The corruptions must not have seeds of their own.
        on_device: True sets this option of every :class:`GaussianNoise` among the configs.

    Raises:
        TypeError: If an entry is not a corruption.
        ValueError: If the list is empty, a name is unknown, or an entry has a seed of its own; if
            ``probs`` has the wrong length, an entry outside 0..1, or does not sum to 1.
    """

    def __init__(
        self,
        corruptions: Sequence[dict | BaseCorruption],
        probs: Sequence[float] | None = None,
        seed: int | None = None,
        on_device: bool = False,
    ) -> None:
        super().__init__(seed)
        checked_on_device(on_device, seed)
        if not isinstance(corruptions, Sequence) or isinstance(corruptions, str):
            raise TypeError(f'corruptions must be a list of corruptions, got {corruptions!r}')
        if not corruptions:
            raise ValueError('corruptions must name at least one corruption, got an empty list')
        self.corruptions = [_build(corruption, on_device) for corruption in corruptions]
        for corruption in self.corruptions:
            if corruption.seed is not None:
                raise ValueError(
                    f'{corruption} has a seed of its own; set the seed of MixedCorruption, which '
                    'draws for all of its corruptions'
                )
        # Every image of a batch then needs the third entry that noisy ones have.
        self.on_device = any(getattr(c, 'on_device', False) for c in self.corruptions)
        checked_on_device(self.on_device, seed)
        self.dtype = np.result_type(*(c.dtype for c in self.corruptions)).type
        self.probs = probs
        count = len(self.corruptions)
        if probs is None:
            self._probs = np.full(count, 1 / count)
        else:
            self._probs = np.array(checked_numbers('probs', probs, count, 0, 1))
            if abs(self._probs.sum() - 1) > 1e-6:
                raise ValueError(f'probs must sum to 1, got {probs!r}')
            self._probs /= self._probs.sum()

    def apply(
        self, image: np.ndarray, rng: np.random.Generator
    ) -> tuple[list[np.ndarray], BaseCorruption]:
        """Apply one of the corruptions; all return the same dtype and number of entries."""
        chosen = self.corruptions[rng.choice(len(self._probs), p=self._probs)]
        (corrupted, clean, *noise), applied = chosen.apply(image, rng)
        if self.on_device and not noise:
            noise = [np.array(NO_NOISE)]
        return [corrupted.astype(self.dtype, copy=False), clean, *noise], applied

    def corrupt(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Corrupt ``image``, (H, W, 3) uint8, by one of the corruptions."""
        return self.apply(image, rng)[0][0]


def _build(corruption: dict | BaseCorruption, on_device: bool) -> BaseCorruption:
    """Build a corruption from its config, or return the one given."""
    if isinstance(corruption, BaseCorruption):
        return corruption
    if not isinstance(corruption, dict):
        raise TypeError(f'corruptions must hold configs or corruptions, got {corruption!r}')
    kind = corruption.get('type')
    cls = TRANSFORMS.get(kind) if isinstance(kind, str) else kind
    if cls is None:
        known = sorted(n for n, c in TRANSFORMS.module_dict.items() if _is_corruption(c))
        raise ValueError(
            f'{kind!r} in {dict(corruption)} is not a registered corruption; those are '
            f'{", ".join(known)}{nearest_name(str(kind), known)}'
        )
    if not _is_corruption(cls):
        raise TypeError(f'{kind!r} in {dict(corruption)} is not a BaseCorruption')
    options = {**corruption, 'type': cls}
    if on_device and issubclass(cls, GaussianNoise | MixedCorruption):
        options['on_device'] = True
    return TRANSFORMS.build(options)


def _is_corruption(cls: object) -> bool:
    return isinstance(cls, type) and issubclass(cls, BaseCorruption)
