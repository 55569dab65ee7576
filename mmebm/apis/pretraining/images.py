"""Which images are trained on, and which are held out."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...datasets import IMAGE_EXTENSIONS
from ...datasets.files import find_images

HELD_OUT_SHARE, FEWEST_HELD_OUT, MOST_HELD_OUT = 0.05, 16, 1024
# held-out images of each class, so that nearest neighbours among them can tell classes
FEWEST_PER_CLASS = 5


@dataclass(frozen=True)
class Images:
    """The images of a run.

    Attributes:
        root: folder that holds them all.
        train: paths relative to it.
        held_out: likewise; never trained on.
        classes: names of the class sub-folders, in the order of the labels; none if there are no
            such folders.
        labels: of the held-out images.
        notes: what was left out, a line each.
    """

    root: Path
    train: list[str]
    held_out: list[str]
    classes: list[str]
    labels: list[int]
    notes: list[str] = field(default_factory=list)


def find(sources: str | Path | Sequence[str | Path], held_out: int | None, seed: int) -> Images:
    """Find the images and draw those that are held out.

    Args:
        sources: a folder, searched at any depth, or a text file with the path of an image per line
            (relative to the file's folder); or several of these.
        held_out: number of images to hold out, ≥ 1. None takes 5 %, from 16 to 1,024, or 5 of each
            class if these are more, and no more than a fifth.
        seed: of the draw.

    Raises:
        FileNotFoundError: a source is missing or holds no image.
        ValueError: there are too few images, or a source is neither folder nor list.
    """
    sources = [sources] if isinstance(sources, str | Path) else list(sources)
    if not sources:
        raise ValueError('data must be at least one folder of images or list of paths, got none')
    paths = sorted({path for source in sources for path in _images_of(Path(source).expanduser())})
    paths, notes = _named_in_lists(paths)
    count = _number_held_out(len(paths), held_out)
    root = Path(os.path.commonpath([path.parent for path in paths]))
    names = [path.relative_to(root).as_posix() for path in paths]
    classes = _classes(names)
    if classes and held_out is None:
        enough = FEWEST_PER_CLASS * len(classes)
        count = max(count, enough if enough <= min(len(names) // 5, MOST_HELD_OUT) else 0)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(names)).tolist()
    first = _some_of_each(classes, names, order)
    if len(first) > count or len(first) < FEWEST_PER_CLASS * len(classes):
        notes.append(
            f'no kNN accuracy: it needs {FEWEST_PER_CLASS} held-out images of each of the '
            f'{len(classes)} classes (--held-out)'
        )
        classes, first = [], []
    drawn = set(first)
    drawn |= set([i for i in order if i not in drawn][: count - len(drawn)])
    train = [name for i, name in enumerate(names) if i not in drawn]
    kept = [name for i, name in enumerate(names) if i in drawn]
    labels = [classes.index(name.split('/')[0]) for name in kept] if classes else []
    return Images(root, train, kept, classes, labels, notes)


def _images_of(source: Path) -> list[Path]:
    if source.is_dir():
        return [path.absolute() for path in find_images(source)[0]]
    if not source.is_file():
        raise FileNotFoundError(f'no such folder or list of images: {source}')
    if source.suffix.lower() in IMAGE_EXTENSIONS:
        raise ValueError(f'data {source} is a single image: give a folder, or a list of paths')
    try:
        lines = [line.strip() for line in source.read_text().splitlines()]
    except UnicodeDecodeError as error:
        raise ValueError(f'data {source} is neither a folder nor a text file of paths') from error
    paths = [(source.parent / line).absolute() for line in lines if line]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f'{source} names {len(missing)} of {len(paths)} files that do not exist, the first is '
            f'{missing[0]}'
        )
    if not paths:
        raise FileNotFoundError(f'{source} names no image')
    return paths


def _number_held_out(total: int, asked: int | None) -> int:
    if total < 2:
        raise ValueError(f'data holds {total} image: at least 2 are needed, one is held out')
    if asked is None:
        share = min(max(round(HELD_OUT_SHARE * total), FEWEST_HELD_OUT), MOST_HELD_OUT)
        return max(1, min(share, total // 5))
    if asked >= total:
        raise ValueError(f'held_out must be below the number of images ({total}), got {asked}')
    return asked


def _classes(names: list[str]) -> list[str]:
    """The class sub-folders; none unless all images lie in one of two or more."""
    if not all('/' in name for name in names):
        return []
    classes = sorted({name.split('/')[0] for name in names})
    return classes if len(classes) > 1 else []


def _some_of_each(classes: list[str], names: list[str], order: list[int]) -> list[int]:
    """The first images of each class in an order, as many as are held out at least."""
    counts, first = dict.fromkeys(classes, 0), []
    for i in order if classes else ():
        name = names[i].split('/')[0]
        if counts[name] < FEWEST_PER_CLASS:
            counts[name] += 1
            first.append(i)
    return first


def _named_in_lists(paths: list[Path]) -> tuple[list[Path], list[str]]:
    """The paths that a text file with a path per line can hold, and a note of the others."""
    kept = [path for path in paths if _fits_in_a_line(str(path))]
    left_out = len(paths) - len(kept)
    if not left_out:
        return paths, []
    first = next(str(path) for path in paths if not _fits_in_a_line(str(path)))
    return kept, [f'{left_out} left out, whose names are no UTF-8 or hold a line break: {first!r}']


def _fits_in_a_line(path: str) -> bool:
    # the system's bytes that are no UTF-8 are surrogates in a str
    return len(path.splitlines()) == 1 and not any('\ud800' <= c <= '\udfff' for c in path)
