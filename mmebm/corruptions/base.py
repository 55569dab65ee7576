"""What all corruptions share: the contract with the data pipeline, and the source of randomness."""

import inspect
from abc import abstractmethod
from collections.abc import Sequence

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from ..utils import checked_bool, checked_int


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
        TypeError, ValueError: If ``seed`` is neither None nor an integer >= 0.
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

        Raises:
            TypeError, ValueError: If :meth:`corrupt` breaks its contract.
        """
        # A read-only view: corrupting in place would corrupt the target too.
        view = _contiguous(image).view()
        view.flags.writeable = False
        corrupted = self.corrupt(view, rng)
        _check_corrupted(self, corrupted, image)
        if np.may_share_memory(corrupted, image):
            corrupted = corrupted.copy()
        return [corrupted, image], self

    def transform(self, results: dict) -> dict:
        """Replace ``results['img']`` by ``[corrupted, clean]`` and name the corruption.

        Raises:
            TypeError, ValueError: If the image is not (H, W, 3) uint8, if a seed is set and
                ``sample_idx`` is missing, or if :meth:`corrupt` breaks its contract.
        """
        image = results.get('img')
        _check_image(self, image)
        results['img'], applied = self.apply(image, self._generator(results))
        results['corruption'] = type(applied).__name__
        return results

    def _generator(self, results: dict) -> np.random.Generator:
        if self.seed is None:
            return np.random.default_rng(np.random.randint(2**32, size=4, dtype=np.uint32))
        if 'sample_idx' not in results:
            raise ValueError(
                f'{type(self).__name__}(seed={self.seed}) needs the key sample_idx, to corrupt an '
                'image identically in every epoch, but got only the keys '
                f"{sorted(results)}. MMEngine's BaseDataset writes it; without it use seed=None"
            )
        return np.random.default_rng([self.seed, results['sample_idx']])

    def __repr__(self) -> str:
        """Name and options. Each option is expected in an attribute of its own name."""
        names = [n for n in inspect.signature(type(self)).parameters if hasattr(self, n)]
        return f'{type(self).__name__}({", ".join(f"{n}={getattr(self, n)!r}" for n in names)})'


def image_order(rgb: Sequence[float], to_rgb: bool) -> np.ndarray:
    """Reorder one value per channel from RGB, as in configs, to the channel order of the images.

    Args:
        rgb: Three values in the order red, green, blue, like ``mean`` and ``std`` of MMPretrain's
            ``SelfSupDataPreprocessor``.
        to_rgb: The option of that preprocessor. True: images arrive as BGR, which is what
            ``LoadImageFromFile`` returns, and are converted to RGB later. False: they are RGB.

    Returns:
        Array (3,).

    Raises:
        TypeError: If ``to_rgb`` is not a bool.
    """
    return np.array(rgb[::-1] if checked_bool('to_rgb', to_rgb) else rgb)


def _contiguous(image: np.ndarray) -> np.ndarray:
    # ``RandomFlip`` returns a reversed view, which numpy copies 30 times more slowly than OpenCV.
    mirrored = image[:, ::-1]
    if mirrored.flags.c_contiguous:
        return cv2.flip(mirrored, 1)
    return np.ascontiguousarray(image)


def _check_image(corruption: BaseCorruption, image: np.ndarray) -> None:
    expected = f"{type(corruption).__name__} expects results['img'] as (H, W, 3) uint8"
    if not isinstance(image, np.ndarray):
        raise TypeError(
            f'{expected}, got {type(image).__name__}. It belongs in the pipeline once, after the '
            'transforms that load and crop, before PackInputs'
        )
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f'{expected}, got shape {image.shape} {image.dtype}')
    if image.dtype != np.uint8:
        raise TypeError(f'{expected}, got shape {image.shape} {image.dtype}')


def _check_corrupted(corruption: BaseCorruption, corrupted: np.ndarray, image: np.ndarray) -> None:
    name = f'{type(corruption).__name__}.corrupt'
    expected = f'{name} must return {image.shape} {np.dtype(corruption.dtype)}'
    if not isinstance(corrupted, np.ndarray):
        raise TypeError(f'{expected}, got {type(corrupted).__name__}')
    if corrupted.shape != image.shape:
        raise ValueError(f'{expected}, got shape {corrupted.shape} {corrupted.dtype}')
    if corrupted.dtype != corruption.dtype:
        raise TypeError(
            f'{expected}, got shape {corrupted.shape} {corrupted.dtype}; convert the result, or '
            'set the class attribute dtype'
        )
