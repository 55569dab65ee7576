"""Images of a folder, without labels; broken files and restarts do not change the run."""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from mmengine.dataset import force_full_init
from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.logging import print_log
from mmpretrain.datasets import CustomDataset
from mmpretrain.registry import DATASETS

from ..utils import UserError, checked_int, fixed_random_state

# What the decoders of the opencv-python wheel read. Left out are floating-point formats whose
# range is not standardised (.pfm) and those that the wheel was built without (.exr, .jxl, .heic).
IMAGE_EXTENSIONS = (
    *('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.apng', '.webp', '.avif', '.gif'),
    *('.bmp', '.dib', '.tif', '.tiff', '.jp2', '.j2k', '.pbm', '.pgm', '.ppm', '.pxm', '.pnm'),
    *('.pam', '.sr', '.ras', '.hdr', '.pic'),
)


@DATASETS.register_module()
class ImageFolder(CustomDataset):
    """Every image below a folder, at any depth; no labels are needed.

    **Unreadable images.** An image that cannot be read or decoded (truncated, empty, vanished, no
    image at all) is replaced by another one of the dataset. Its path is logged once, and it is
    marked in memory that all processes share: :meth:`unreadable_images` lists such images, and
    :class:`~mmebm.engine.UnreadableImagesHook` reports them. This holds for the first transform of
    the pipeline only, which loads the image; exceptions of later ones propagate.

    **Randomness.** Once :meth:`set_epoch` was called (:class:`~mmebm.engine.ReproducibleEpochsHook`
    does), all that the pipeline draws from NumPy, ``random`` or torch depends only on the seed,
    the epoch and the index: not on the number of workers or processes, and not on whether the run
    was interrupted. Before that, samples draw from the process's own generators, as in any MMEngine
    dataset. With ``test_mode=True`` the epoch plays no part: an image always gets the same draws.

    Images come as ``(H, W, 3)`` uint8 in BGR, with the EXIF orientation applied, whatever they are
    stored as (grey, palette, CMYK, 16 bit, with alpha, ...), if the pipeline begins with
    ``dict(type='LoadImageFromFile')``. Alpha is dropped.

    Args:
        data_root: The folder. ``~`` is expanded.
        data_prefix: A sub-folder of ``data_root``, or another folder.
        ann_file: A text file with one path relative to the folder per line (followed by the label
            if ``with_label``), in place of searching the folder.
        with_label: Whether the first level of sub-folders names classes.
        extensions: The file name endings taken for images, in any case of letters.
        repeats: How often each image is delivered in an epoch, each time with its own draws
            (unlike the repetitions of ``RepeatDataset``). For folders so small that an epoch would
            take only moments.
        seed: The seed of the draws, unless :meth:`set_epoch` is given another.
        max_refetch: How many replacements may be unreadable in a row before the run is stopped.
        lazy_init: Whether to leave the search for images to the first use.
        **kwargs: Further options of :class:`mmpretrain.datasets.CustomDataset`: ``pipeline``,
            ``test_mode``, ``indices``, ``metainfo``, ``classes``, ``serialize_data``.

    Raises:
        FileNotFoundError: the folder does not exist or holds no image.
        ValueError: the folder is a file, or an option is out of its range.
        TypeError: an option has the wrong type.
    """

    def __init__(
        self,
        data_root: str = '',
        data_prefix: str | dict = '',
        ann_file: str = '',
        with_label: bool = False,
        extensions: Sequence[str] = IMAGE_EXTENSIONS,
        repeats: int = 1,
        seed: int = 0,
        max_refetch: int = 100,
        lazy_init: bool = False,
        **kwargs: Any,
    ) -> None:
        if not (data_root or data_prefix or ann_file):
            raise ValueError('ImageFolder needs a folder: set data_root=... or data_prefix=...')
        if isinstance(extensions, str) or not all(isinstance(e, str) for e in extensions):
            raise TypeError(f"extensions must be a list such as ['.jpg'], but got {extensions!r}")
        if not extensions:
            raise ValueError('extensions must name at least one file name ending')
        self.repeats = checked_int('repeats', repeats, minimum=1)
        self.seed = checked_int('seed', seed, minimum=0)
        super().__init__(
            data_root=os.path.expanduser(data_root),
            data_prefix=data_prefix,
            ann_file=ann_file,
            with_label=with_label,
            extensions=extensions,
            max_refetch=checked_int('max_refetch', max_refetch, minimum=0),
            lazy_init=lazy_init,
            **kwargs,
        )

    def full_init(self) -> None:
        """Search the folder, if that was not done yet."""
        if not self._fully_initialized:
            super().full_init()
            self._create_shared_state()

    def load_data_list(self) -> list[dict]:
        """Paths of all images, in alphabetical order (or that of ``ann_file``)."""
        data_list = super().load_data_list()
        if not data_list:  # a search without a find has already raised
            raise FileNotFoundError(f'ann_file {self.ann_file!r} lists no image')
        return data_list

    def _find_samples(self) -> list:
        folder = self.img_prefix
        backend = get_file_backend(folder, enable_singleton=True)
        if isinstance(backend, LocalBackend):
            folder = os.path.abspath(folder)
            options = f'(data_root={self.data_root!r}, data_prefix={self.data_prefix!r})'
            if not os.path.exists(folder):
                raise FileNotFoundError(f'The image folder does not exist: {folder} {options}')
            if not os.path.isdir(folder):
                raise ValueError(f'Not a folder of images but a file: {folder} {options}')
        try:
            return super()._find_samples()
        except RuntimeError as error:  # this is how CustomDataset says that it found no file
            where = 'in the class sub-folders (with_label=True) of' if self.with_label else 'below'
            files = backend.list_dir_or_file(folder, list_dir=False, recursive=True)
            endings = Counter(os.path.splitext(file)[1].lower() or file for file in files)
            found = ', '.join(f'{n} × {ending}' for ending, n in endings.most_common(5)) or 'none'
            raise FileNotFoundError(
                f'No image {where} {folder}. Files found: {found}. '
                f'Extensions taken for images: {" ".join(sorted(self.extensions))}'
            ) from error

    # State that the main process and all loader workers share ---------------------------------

    def _create_shared_state(self) -> None:
        # Workers, forked or spawned, get these tensors as the same memory.
        self._clock = torch.tensor([self.seed, -1]).share_memory_()  # seed, epoch (-1: not set)
        self._unreadable = torch.zeros(self.num_images, dtype=torch.uint8).share_memory_()

    def __setstate__(self, state: dict) -> None:
        # A deep copy, as MMEngine's Runner makes of a loader's config, is not in shared memory.
        self.__dict__.update(state)
        if self._fully_initialized:
            self._clock.share_memory_()
            self._unreadable.share_memory_()

    def get_subset_(self, indices: Sequence[int] | int) -> None:
        """Keep only these images; see :meth:`mmengine.dataset.BaseDataset.get_subset_`."""
        super().get_subset_(indices)
        self._create_shared_state()

    def get_subset(self, indices: Sequence[int] | int) -> 'ImageFolder':
        """A dataset of these images; see :meth:`mmengine.dataset.BaseDataset.get_subset`."""
        subset = super().get_subset(indices)
        subset._create_shared_state()
        return subset

    @force_full_init
    def set_epoch(self, epoch: int, seed: int | None = None) -> None:
        """Fix what the samples of an epoch draw, in this process and in running workers.

        Call it before the loader's iterator is made, since workers load ahead.

        Args:
            epoch: Number of the epoch, from 0.
            seed: The run's seed. Defaults to the one set before.

        Raises:
            ValueError: a number is negative.
        """
        self._clock[1] = checked_int('epoch', epoch, minimum=0)
        if seed is not None:
            self._clock[0] = checked_int('seed', seed, minimum=0)

    @force_full_init
    def unreadable_images(self) -> list[str]:
        """Sorted paths of the images that any process failed to read so far."""
        marked = torch.nonzero(self._unreadable).flatten().tolist()
        return sorted({self.get_data_info(image)['img_path'] for image in marked})

    # Samples -----------------------------------------------------------------------------------

    @property
    def num_images(self) -> int:
        """Number of different images; the length of the dataset is ``repeats`` times that."""
        return super().__len__()

    @force_full_init
    def __len__(self) -> int:
        return self.num_images * self.repeats

    @force_full_init
    def get_data_info(self, idx: int) -> dict:
        """What is known about a sample: ``img_path``, ``sample_idx`` (its index, not negative), and
        ``gt_label`` if ``with_label``.
        """
        return super().get_data_info(idx % self.num_images) | {'sample_idx': idx % len(self)}

    @force_full_init
    def __getitem__(self, idx: int) -> dict:
        """The sample after the pipeline; that of another image if this one cannot be read.

        Raises:
            RuntimeError: ``max_refetch`` replacements in a row were unreadable too.
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
        self._raise_nothing_readable()

    def _random_state(self, idx: int) -> AbstractContextManager[None]:
        seed, epoch = self._clock.tolist()
        if self.test_mode:
            return fixed_random_state(seed, idx)
        return fixed_random_state(seed, epoch, idx) if epoch >= 0 else nullcontext()

    def prepare_data(self, idx: int) -> dict | None:
        """Run the pipeline on one image; None if the image is unreadable or was rejected."""
        results = self.get_data_info(idx)
        for step, transform in enumerate(self.pipeline.transforms):
            results = self._load(transform, results) if step == 0 else transform(results)
            if results is None:
                return None
        return results

    def _load(self, load_image: Any, info: dict) -> dict | None:
        # Reading fails in as many ways as there are storage backends and decoders.
        path, image = info['img_path'], info['sample_idx'] % self.num_images
        try:
            results = load_image(info)
            reason = 'not decodable'
        except Exception as error:
            results = None
            reason = f'{type(error).__name__}: {error}'
        if results is None and not self._unreadable[image]:
            self._unreadable[image] = 1
            message = f'Unreadable image, another one takes its place: {path!r} ({reason})'
            print_log(message, logger='current', level=logging.WARNING)
        return results

    def _raise_nothing_readable(self) -> None:
        paths = self.unreadable_images()
        raise UserError(
            f'No image was delivered in {self.max_refetch + 1} attempts (max_refetch='
            f'{self.max_refetch}). Of {self.num_images} images below {self.img_prefix!r}, '
            f'{len(paths)} turned out unreadable so far, e.g. {", ".join(map(repr, paths[:3]))}. '
            'Is the storage mounted, and are the files images? The log names the reason for each.'
        )
