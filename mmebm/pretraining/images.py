"""Look at the images: which are trained on, and which are held out."""

import contextlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..datasets import IMAGE_EXTENSIONS, classes_of, find_images, read_list, read_pixels
from ..utils.state_dict import shortened

HELD_OUT_SHARE, FEWEST_HELD_OUT, MOST_HELD_OUT = 0.05, 16, 1024
FEWEST_PER_CLASS = 5  # held out, so that nearest neighbours among them can tell classes
_NOT_IN_A_LIST = re.compile('[\n-\r\x1c-\x1e\x85\u2028\u2029\ud800-\udfff]')  # of names, as UTF-8


class Images(NamedTuple):
    """The images of a run."""

    root: Path  # folder that holds them all
    train: list[str]  # paths relative to it
    held_out: list[str]  # likewise; never trained on
    classes: list[str]  # names of the class sub-folders, in the order of the labels, if any
    labels: list[int]  # of the held-out images, if there are classes
    notes: list[str]  # what was left out, a line each
    grey: bool = False  # whether there is no colour in them


def split_images(sources: Sequence[str | Path], held_out: int | None, seed: int) -> Images:
    """Find the images and draw those that are held out.

    Args:
        sources: folders, searched at any depth, or text files with a path per line.
        held_out: how many, ≥ 1; None takes 5 %, from 16 to 1,024, or 5 of each class if these are
            more, and no more than a fifth.
        seed: of the draw.

    Raises:
        FileNotFoundError, ValueError: a source is missing or no such thing; too few images.
    """
    found, notes = set(), []
    for source in map(Path, sources):
        if source.suffix.lower() in IMAGE_EXTENSIONS and source.is_file():
            raise ValueError(f'data {source} is a single image: give a folder, or a list of paths')
        images, left_out = (read_list(source), []) if source.is_file() else find_images(source)
        found.update(images)
        notes += left_out
    paths = sorted(path for path in found if not _NOT_IN_A_LIST.search(str(path)))
    if len(paths) < len(found):
        notes.append(f'{len(found) - len(paths)} skipped: name not UTF-8 or with a line break')
    root = Path(os.path.commonpath([path.parent for path in paths])) if paths else Path()
    names = [path.relative_to(root).as_posix() for path in paths]
    if len(names) < 2 or (held_out or 0) >= len(names):
        raise ValueError(f'{held_out or 1} of {len(names)} images cannot be held out: none is left')
    share = min(max(round(HELD_OUT_SHARE * len(names)), FEWEST_HELD_OUT), MOST_HELD_OUT)
    count, class_of = held_out or max(1, min(share, len(names) // 5)), classes_of(names)
    classes = sorted(set(class_of))
    enough = FEWEST_PER_CLASS * len(classes)
    if held_out is None and enough <= min(len(names) // 5, MOST_HELD_OUT):
        count = max(count, enough)
    order = np.random.default_rng(seed).permutation(len(names)).tolist()
    seen, first = Counter(), []  # some of each class
    for i in order if classes else ():
        seen[class_of[i]] += 1
        if seen[class_of[i]] <= FEWEST_PER_CLASS:
            first.append(i)
    if classes:
        notes.append(f'{len(classes)} classes: {shortened(classes)}')
    if len(first) > count or len(first) < enough:
        notes.append(f'no kNN accuracy: needs {FEWEST_PER_CLASS} of each held out, see --held-out')
        classes, first = [], []
    drawn = set(list(dict.fromkeys([*first, *order]))[:count])
    kept = [name for i, name in enumerate(names) if i in drawn]
    train = [name for i, name in enumerate(names) if i not in drawn]
    labels = [classes.index(class_of[i]) for i in sorted(drawn)] if classes else []
    return Images(root, train, kept, classes, labels, notes)


def look_grey(images: Images, most: int = 32) -> int:
    """How many images, evenly spread, were looked at and are all grey; 0 if one is not."""
    seen = 0
    for name in images.train[:: -(-len(images.train) // most)]:
        with contextlib.suppress(OSError, ValueError):  # unreadable: told in training
            pixels, _ = read_pixels(images.root / name)
            if (pixels != pixels[..., :1]).any():
                return 0
            seen += 1
    return seen
