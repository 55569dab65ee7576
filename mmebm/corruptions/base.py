"""What all corruptions share: the contract with the data pipeline, the randomness, the mixture."""

import inspect
from abc import abstractmethod
from collections.abc import Sequence

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmpretrain.registry import TRANSFORMS

from ..utils import checked_bool, checked_int, checked_numbers, nearest_name

NO_NOISE = (1.0, 0.0)  # γ and seed of an image that gets no noise


class BaseCorruption(BaseTransform):
    """Base class of the transforms that turn an image into the pair ``[corrupted, clean]``.

    A subclass implements :meth:`corrupt`; the random numbers, the checks and the packing are here.
    In a pipeline a corruption comes after the augmentations and before ``PackInputs``.

    **Required keys**: ``img``, (H, W, 3) uint8, any H, W >= 1; ``sample_idx`` if a seed is set.

    **Modified keys**: ``img``: list of the corrupted image, a new array (H, W, 3) of :attr:`dtype`,
    and the clean image, which is the input array itself, unchanged.

    **Added keys**: ``corruption``: class name of the corruption applied (str), so that metrics can
    be reported per corruption. ``PackInputs(meta_keys=('corruption', ...))`` passes it on to them.

    Args:
        seed: None: every call draws anew, from a generator seeded by numpy's global state. MMEngine
            seeds that state per worker, so a run is reproducible from its seed. An integer >= 0:
            the corruption depends only on this number and ``sample_idx``, so an image of a
            validation set is corrupted identically in every epoch.

    Raises:
        TypeError, ValueError: An option has the wrong type or is out of range; in subclasses too.
    """

    dtype: type = np.uint8
    """Type of the corrupted image: uint8, or float32 if values leave 0..255."""

    def __init__(self, seed: int | None = None) -> None:
        self.seed = None if seed is None else checked_int('seed', seed, minimum=0)

    @abstractmethod
    def corrupt(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Corrupt one image.

        Args:
            image: (H, W, 3) uint8 in 0..255, in the loader's channel order. Contiguous, read-only.
            rng: The only source of randomness to use.

        Returns:
            Array (H, W, 3) of :attr:`dtype`, in pixel units; float32 may leave 0..255.
        """

    def apply(
        self, image: np.ndarray, rng: np.random.Generator
    ) -> tuple[list[np.ndarray], 'BaseCorruption']:
        """Corrupt one image and check the result.

        Args:
            image: (H, W, 3) uint8; not modified.
            rng: The only source of randomness.

        Returns:
            ``[corrupted, image]``, with a new array ``corrupted``; and the corruption applied: this
            one, or the one that a mixture has drawn.
        """
        # A read-only view: corrupting in place would corrupt the target too.
        view = _contiguous(image).view()
        view.flags.writeable = False
        corrupted = self.corrupt(view, rng)
        must = f'{type(self).__name__}.corrupt must return'
        _check_array(must, corrupted, self.dtype, image.shape)
        if np.may_share_memory(corrupted, image):
            corrupted = corrupted.copy()
        return [corrupted, image], self

    def transform(self, results: dict) -> dict:
        """Replace ``results['img']`` by ``[corrupted, clean]`` and name the corruption.

        Raises:
            TypeError, ValueError: If the image, ``sample_idx`` or the result is not as above.
        """
        image = results.get('img')
        must = f"{type(self).__name__}, once before PackInputs, expects results['img'] as"
        _check_array(must, image, np.uint8)
        results['img'], applied = self.apply(image, self._generator(results))
        results['corruption'] = type(applied).__name__
        return results

    def _generator(self, results: dict) -> np.random.Generator:
        if self.seed is None:
            return np.random.default_rng(np.random.randint(2**32, size=4, dtype=np.uint32))
        if 'sample_idx' not in results:
            raise ValueError(
                f'{type(self).__name__}(seed={self.seed}) needs the key sample_idx of a data set, '
                f'got only {sorted(results)}: use seed=None; or `mmebm embed` in place of '
                "MMPretrain's FeatureExtractor, which would corrupt the images"
            )
        return np.random.default_rng([self.seed, results['sample_idx']])

    def __repr__(self) -> str:
        """Name and options. Each option is expected in an attribute of its own name."""
        names = [n for n in inspect.signature(type(self)).parameters if hasattr(self, n)]
        return f'{type(self).__name__}({", ".join(f"{n}={getattr(self, n)!r}" for n in names)})'


@TRANSFORMS.register_module()
class MixedCorruption(BaseCorruption):
    """Draw one of several corruptions for each image (section 3.2 and Table 3).

    Instead of one that changes nothing, as colorization of a grey image, another is drawn.

    The images of a batch must stack, so all corrupted ones are float32 if any of the corruptions
    returns float32 (noise, unless ``on_device``), else uint8. Clean images stay uint8. A mixture
    may contain mixtures.

    Args:
        corruptions: Configs of transforms, such as ``dict(type='Colorization')``, or corruptions.
        probs: Probability of each, in 0..1, summing to 1; None is uniform, as in the paper.
        seed: See :class:`BaseCorruption`. The corruptions must not have seeds of their own.
        on_device: True sets this option of every :class:`GaussianNoise` among the configs.
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
        given = [1 / count] * count if probs is None else probs
        self._probs = np.array(checked_numbers('probs', given, count, 0, 1))
        if abs(self._probs.sum() - 1) > 1e-6:
            raise ValueError(f'probs must sum to 1, got {probs!r}')
        self._probs /= self._probs.sum()

    def apply(
        self, image: np.ndarray, rng: np.random.Generator
    ) -> tuple[list[np.ndarray], BaseCorruption]:
        """Apply one of the corruptions; all return the same dtype and number of entries."""
        probs = self._probs.copy()
        while probs.any():
            chosen = rng.choice(len(probs), p=probs / probs.sum())
            (corrupted, clean, *noise), applied = self.corruptions[chosen].apply(image, rng)
            if noise or not np.array_equal(corrupted, clean):
                break
            probs[chosen] = 0
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
    if not _is_corruption(cls):
        known = sorted(n for n, c in TRANSFORMS.module_dict.items() if _is_corruption(c))
        raise (ValueError if cls is None else TypeError)(
            f'{kind!r} in {dict(corruption)} is not a corruption; registered are '
            f'{", ".join(known)}{nearest_name(str(kind), known)}'
        )
    options = {**corruption, 'type': cls}
    if on_device and 'on_device' in inspect.signature(cls).parameters:
        options['on_device'] = True
    return TRANSFORMS.build(options)


def _is_corruption(cls: object) -> bool:
    return isinstance(cls, type) and issubclass(cls, BaseCorruption)


def checked_on_device(on_device: bool, seed: int | None) -> bool:
    """Return ``on_device`` if it is a bool, and not True with a seed; else raise."""
    if checked_bool('on_device', on_device) and seed is not None:
        raise ValueError(
            'on_device=True must have seed=None, because devices draw different random numbers '
            f'from the same seed; got seed={seed!r}'
        )
    return on_device


def image_order(rgb: Sequence[float], to_rgb: bool) -> np.ndarray:
    """Reorder one value per channel from RGB, as in configs, to the channel order of the images.

    Args:
        rgb: Three values in the order red, green, blue.
        to_rgb: As for MMPretrain's ``SelfSupDataPreprocessor``. True: images arrive as BGR, which
            is what ``LoadImageFromFile`` returns, and are converted to RGB later. False: as RGB.

    Returns:
        Array (3,).
    """
    return np.array(rgb[::-1] if checked_bool('to_rgb', to_rgb) else rgb)


def _contiguous(image: np.ndarray) -> np.ndarray:
    # ``RandomFlip`` returns a reversed view, which numpy copies 30 times more slowly than OpenCV.
    mirrored = image[:, ::-1]
    if mirrored.flags.c_contiguous:
        return cv2.flip(mirrored, 1)
    return np.ascontiguousarray(image)


def _check_array(
    must: str, image: np.ndarray, dtype: type, shape: tuple[int, int, int] | None = None
) -> None:
    must = f'{must} {shape or "(H, W, 3)"} {np.dtype(dtype)}'
    if not isinstance(image, np.ndarray):
        raise TypeError(f'{must}, got {type(image).__name__}')
    found = f'{must}, got shape {image.shape} {image.dtype}'
    if image.shape != (shape or (*image.shape[:2], 3)) or image.size == 0:
        raise ValueError(found)
    if image.dtype != dtype:
        raise TypeError(found)
