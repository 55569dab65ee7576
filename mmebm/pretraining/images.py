"""Look at the images: which are trained on, and which are held out."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..datasets import IMAGE_EXTENSIONS

HELD_OUT_SHARE, FEWEST_HELD_OUT, MOST_HELD_OUT = 0.05, 16, 1024
FEWEST_PER_CLASS = 5  # held out, so that nearest neighbours among them can tell classes


class Images(NamedTuple):
    """The images of a run."""

    root: Path  # folder that holds them all
    train: list[str]  # paths relative to it
    held_out: list[str]  # likewise; never trained on
    classes: list[str]  # names of the class sub-folders, in the order of the labels, if any
    labels: list[int]  # of the held-out images, if there are classes
    notes: list[str]  # what was left out, a line each


def find_images(sources: Sequence[str | Path], held_out: int | None, seed: int) -> Images:
    """Find the images and draw those that are held out.

    Args:
        sources: folders, searched at any depth, or text files with a path per line.
        held_out: how many, ≥ 1; None takes 5 %, from 16 to 1,024, or 5 of each class if these are
            more, and no more than a fifth.
        seed: of the draw.

    Raises:
        FileNotFoundError, ValueError: a source is missing or no such thing; too few images.
    """
    found = sorted({path for source in sources for path in _images_of(Path(source))})
    paths, notes = [path for path in found if _fits_in_a_line(str(path))], []
    if len(paths) < len(found):
        notes.append(
            f'{len(found) - len(paths)} left out, whose names are no UTF-8 or hold a line break'
        )
    root = Path(os.path.commonpath([path.parent for path in paths])) if paths else Path()
    names = [path.relative_to(root).as_posix() for path in paths]
    count = number_held_out(len(names), held_out)
    folders = sorted({name.split('/')[0] for name in names})
    classes = folders if len(folders) > 1 and all('/' in name for name in names) else []
    enough = FEWEST_PER_CLASS * len(classes)
    if held_out is None and enough <= min(len(names) // 5, MOST_HELD_OUT):
        count = max(count, enough)
    order = np.random.default_rng(seed).permutation(len(names)).tolist()
    seen, first = Counter(), []  # some of each class
    for i in order if classes else ():
        seen[names[i].split('/')[0]] += 1
        if seen[names[i].split('/')[0]] <= FEWEST_PER_CLASS:
            first.append(i)
    if len(first) > count or len(first) < enough:
        notes.append(
            f'no kNN accuracy: it needs {FEWEST_PER_CLASS} held-out images of each of the '
            f'{len(classes)} classes (--held-out)'
        )
        classes, first = [], []
    drawn = set(list(dict.fromkeys([*first, *order]))[:count])
    kept = [name for i, name in enumerate(names) if i in drawn]
    train = [name for i, name in enumerate(names) if i not in drawn]
    labels = [classes.index(name.split('/')[0]) for name in kept] if classes else []
    return Images(root, train, kept, classes, labels, notes)


def number_held_out(total: int, asked: int | None) -> int:
    """How many of ``total`` images are held out."""
    if total < 2:
        raise ValueError(f'data holds {total} image: at least 2 are needed, one is held out')
    if asked is None:
        share = min(max(round(HELD_OUT_SHARE * total), FEWEST_HELD_OUT), MOST_HELD_OUT)
        return max(1, min(share, total // 5))
    if asked >= total:
        raise ValueError(f'held_out must be below the number of images ({total}), got {asked}')
    return asked


def _images_of(source: Path) -> list[Path]:
    if source.is_dir():
        found = [p for p in source.rglob('*') if p.suffix.lower() in IMAGE_EXTENSIONS]
        found = [path for path in found if path.is_file()]
    elif not source.is_file():
        raise FileNotFoundError(f'no such folder or list of images: {source}')
    elif source.suffix.lower() in IMAGE_EXTENSIONS:
        raise ValueError(f'data {source} is a single image: give a folder, or a list of paths')
    else:
        try:
            lines = source.read_text(encoding='utf-8').splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f'data {source} is neither a folder nor a list of paths') from error
        found = [source.parent / line.strip() for line in lines if line.strip()]
        missing = [path for path in found if not path.is_file()]
        if missing:
            raise FileNotFoundError(
                f'{source} names {len(missing)} of {len(found)} files that do not exist, the first '
                f'is {missing[0]}'
            )
    if not found:
        raise FileNotFoundError(f'no image in {source} ({", ".join(IMAGE_EXTENSIONS)})')
    return found


def _fits_in_a_line(path: str) -> bool:
    # the system's bytes that are no UTF-8 are surrogates in a str
    return len(path.splitlines()) == 1 and not any('\ud800' <= c <= '\udfff' for c in path)
