"""Images of a folder, without labels; broken files and restarts do not change the run."""

import logging
import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmcv.transforms import LoadImageFromFile
from mmengine.dataset import force_full_init
from mmengine.fileio import LocalBackend, get, get_file_backend
from mmengine.logging import print_log
from mmpretrain.datasets import CustomDataset
from mmpretrain.registry import DATASETS
from torch.utils.data import get_worker_info

from ..utils import UserError, checked_int
from .files import IMAGE_EXTENSIONS, search
from .reader import NOTES, UnreadableImageError, read_pixels


@DATASETS.register_module()
class ImageFolder(CustomDataset):
    """Every image below a folder, at any depth; no labels are needed.

    **Reading.** A pipeline that begins with ``dict(type='LoadImageFromFile')`` gets images as
    ``(H, W, 3)`` uint8 in BGR, upright, whatever they are stored as: they are read by
    :func:`~mmebm.datasets.read_pixels`, and found by :func:`~mmebm.datasets.files.search`.

    **Unreadable images.** An image that cannot be read is replaced by another one of the dataset,
    and marked in memory that all processes share: :meth:`unreadable_images` lists such images,
    :class:`~mmebm.engine.hooks.UnreadableImagesHook` reports them. This holds for the first
    transform of the pipeline only; exceptions of later ones propagate.

    **Randomness.** Once :meth:`set_epoch` was called
    (:class:`~mmebm.engine.hooks.ReproducibleEpochsHook` does), all that the pipeline draws from
    NumPy, ``random`` or torch depends only on the seed, the epoch and the index: not on the number
    of workers or processes, and not on whether the run was interrupted. With ``test_mode=True`` the
    epoch plays no part: an image always gets the same draws.

    Args:
        data_root: The folder. ``~`` is expanded.
        data_prefix: A folder in it, the only one to be searched.
        ann_file: A text with one path a line, in place of a search.
        with_label: Whether the first level of sub-folders names classes.
        extensions: The file name endings taken for images, in any case of letters.
        repeats: How often each image is delivered in an epoch, each time with its own draws
            (unlike the repetitions of ``RepeatDataset``).
        seed: The seed of the draws, unless :meth:`set_epoch` is given another.
        max_refetch: How many replacements may be unreadable in a row before the run is stopped.
        **kwargs: Further options of :class:`mmpretrain.datasets.CustomDataset`, such as
            ``pipeline`` and ``test_mode``.

    Raises:
        FileNotFoundError: the folder does not exist or holds no image.
        TypeError, ValueError: an option is impossible.
    """

    def __init__(
        self,
        data_root: str = '',
        data_prefix: str | dict = '',
        ann_file: str = '',
        with_label: bool = False,
        extensions: Sequence[str] = IMAGE_EXTENSIONS,
        *,
        repeats: int = 1,
        seed: int = 0,
        max_refetch: int = 100,
        **kwargs: Any,
    ) -> None:
        if isinstance(extensions, str) or not all(isinstance(e, str) for e in extensions):
            raise TypeError(f"extensions must be a list such as ['.jpg'], got {extensions!r}")
        self.repeats = checked_int('repeats', repeats, minimum=1)
        self.seed = checked_int('seed', seed, minimum=0)
        super().__init__(
            os.path.expanduser(data_root),
            data_prefix,
            ann_file,
            with_label,
            extensions,
            max_refetch=checked_int('max_refetch', max_refetch, minimum=0),
            **kwargs,
        )

    def full_init(self) -> None:
        """Search the folder, unless that was done."""
        if not self._fully_initialized:
            super().full_init()
            self._create_shared_state()

    def load_data_list(self) -> list[dict]:
        """Paths of all images, in alphabetical order (or that of ``ann_file``)."""
        data_list = super().load_data_list()
        if not data_list:  # a search without a find has already raised
            raise FileNotFoundError(f'ann_file {self.ann_file!r} names no image')
        return data_list

    def _find_samples(self) -> list:
        if not isinstance(get_file_backend(self.img_prefix, enable_singleton=True), LocalBackend):
            return super()._find_samples()
        if not os.path.isdir(self.img_prefix):
            options = f'data_root={self.data_root!r}, data_prefix={self.data_prefix!r}'
            raise FileNotFoundError(f'{os.path.abspath(self.img_prefix)} does not exist: {options}')
        names, notes = search(self.img_prefix, self.extensions)
        for note in notes:
            print_log(f'{self.img_prefix}: {note}', logger='current', level=logging.WARNING)
        if not self.with_label:
            return names
        names = [name for name in names if '/' in name]
        if not names:
            raise FileNotFoundError(f'with_label=True, but no class folder in {self.img_prefix}')
        classes = sorted({name.split('/')[0] for name in names})
        self._metainfo['classes'] = self.CLASSES or tuple(classes)
        if len(self.CLASSES) != len(classes):
            raise ValueError(f'classes must name the {len(classes)} folders, got {self.CLASSES}')
        return [(name, classes.index(name.split('/')[0])) for name in names]

    def _create_shared_state(self) -> None:
        # Workers, forked or spawned, get these tensors as the same memory.
        self._clock = torch.tensor([self.seed, -1]).share_memory_()  # seed, epoch (-1: not set)
        # of each image: 1 if it is unreadable, and 2, 4, ... for the notes of the reader
        self._marks = torch.zeros(self.num_images, dtype=torch.uint8).share_memory_()

    def __setstate__(self, state: dict) -> None:
        # A deep copy, as MMEngine's Runner makes of a loader's config, is not in shared memory.
        self.__dict__.update(state)
        if self._fully_initialized:
            self._clock.share_memory_()
            self._marks.share_memory_()

    def get_subset_(self, indices: Sequence[int] | int) -> None:
        """Keep only these images."""
        super().get_subset_(indices)
        self._create_shared_state()

    @force_full_init
    def set_epoch(self, epoch: int, seed: int | None = None) -> None:
        """Fix what the samples of an epoch (≥ 0) draw, in this process and in running workers.

        Call it before the loader's iterator is made, since workers load ahead. ``seed``, ≥ 0, is
        the run's; it defaults to the one set before.
        """
        self._clock[1] = checked_int('epoch', epoch, minimum=0)
        if seed is not None:
            self._clock[0] = checked_int('seed', seed, minimum=0)

    @force_full_init
    def unreadable_images(self) -> list[str]:
        """Sorted paths of the images that any process failed to read so far."""
        marked = torch.nonzero(self._marks & 1).flatten().tolist()
        return sorted({self.get_data_info(image)['img_path'] for image in marked})

    @force_full_init
    def notes(self) -> dict[str, int]:
        """How many images were read so far that are special in a way; by its description."""
        counts = {note: int((self._marks & 2 << i).count_nonzero()) for i, note in enumerate(NOTES)}
        return {note: count for note, count in counts.items() if count}

    @property
    def num_images(self) -> int:
        """Number of different images; the length of the dataset is ``repeats`` times that."""
        return super().__len__()

    @force_full_init
    def __len__(self) -> int:
        return self.num_images * self.repeats

    @force_full_init
    def get_data_info(self, idx: int) -> dict:
        """``img_path``, ``sample_idx`` (not negative), and ``gt_label`` if ``with_label``."""
        return super().get_data_info(idx % self.num_images) | {'sample_idx': idx % len(self)}

    @force_full_init
    def __getitem__(self, idx: int) -> dict:
        """The sample after the pipeline; that of another image if this one cannot be read.

        Raises:
            UserError: ``max_refetch`` replacements in a row were unreadable too.
        """
        if not -len(self) <= idx < len(self):
            raise IndexError(f'index {idx} is out of range for {len(self)} samples')
        idx %= len(self)
        with self._random_state(idx):
            image = idx
            for _ in range(self.max_refetch + 1):
                data = self.prepare_data(image)
                if data is not None:
                    return data
                image = self._rand_another()
        reasons = Counter(map(why_unreadable, self.unreadable_images()[:1000]))
        kinds = '; '.join(f'{n} × {reason}' for reason, n in reasons.most_common(3))
        raise UserError(
            f'No image was delivered in {self.max_refetch + 1} attempts (max_refetch='
            f'{self.max_refetch}), of {self.num_images} images below {self.img_prefix!r}: {kinds}'
        )

    @contextmanager
    def _random_state(self, idx: int) -> Iterator[None]:
        """Seed NumPy's, Python's and torch's CPU generators; restore them unless in a worker."""
        seed, epoch = self._clock.tolist()
        if epoch < 0 and not self.test_mode:
            yield
            return
        seeds = derive_seeds(seed, idx) if self.test_mode else derive_seeds(seed, epoch, idx)
        saved = np.random.get_state(), random.getstate()
        with torch.random.fork_rng(devices=(), enabled=get_worker_info() is None):
            np.random.seed(seeds[0])
            random.seed(seeds[1])
            torch.default_generator.manual_seed(seeds[2])
            try:
                yield
            finally:
                if get_worker_info() is None:
                    np.random.set_state(saved[0])
                    random.setstate(saved[1])

    def prepare_data(self, idx: int) -> dict | None:
        """Run the pipeline on one image; None if the image is unreadable or was rejected."""
        results = self.get_data_info(idx)
        for step, transform in enumerate(self.pipeline.transforms):
            results = self._load(transform, results) if step == 0 else transform(results)
            if results is None:
                return None
        return results

    def _load(self, load_image: Any, info: dict) -> dict | None:
        try:
            if type(load_image) is not LoadImageFromFile or load_image.color_type != 'color':
                results, notes = load_image(info), ()
            else:
                data = get(info['img_path'], backend_args=load_image.backend_args)
                pixels, notes = read_pixels(data)
                size = pixels.shape[:2]
                pixels = pixels.astype(np.float32) if load_image.to_float32 else pixels
                results = info | dict(img=pixels, img_shape=size, ori_shape=size)
        except Exception:  # as many kinds as there are storage backends and decoders
            results, notes = None, ()
        if results is None or notes:
            marks = int(results is None) + sum(2 << NOTES.index(note) for note in notes)
            self._marks[info['sample_idx'] % self.num_images] |= marks
        return results


def why_unreadable(path: str) -> str:
    """Why an image cannot be read, '' if it can."""
    try:
        read_pixels(get(path))
    except Exception as error:
        return str(error) if isinstance(error, UnreadableImageError) else type(error).__name__
    return ''


def derive_seeds(*entropy: int) -> tuple[int, int, int]:
    """Three independent seeds in ``[0, 2**32)``, for NumPy, Python's ``random`` and torch.

    From integers ≥ 0 such as seed, epoch and sample index; neighbouring ones give unrelated seeds.
    """
    return tuple(np.random.SeedSequence(entropy).generate_state(3).tolist())
