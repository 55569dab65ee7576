"""Images of Hugging Face ``datasets``, written to files once, so that all else goes on as usual."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...datasets import IMAGE_EXTENSIONS
from ...evaluation.backbone_check import words

PREFIX = 'hf:'
FOLDER = 'images'  # in a run's folder


def is_hub(source: Any) -> bool:
    """Whether a source is ``hf:NAME``, ``hf:NAME:SPLIT``, or a ``datasets.Dataset``."""
    return str(source).startswith(PREFIX) if isinstance(source, str) else _is_dataset(source)


def name_of(source: Any) -> str:
    """The name under which a run remembers a source; a dataset is known by its fingerprint."""
    return source if isinstance(source, str) else f'{PREFIX}{source._fingerprint}'


def folder_of(name: str, out: Path) -> Path:
    """Where the images of a source go."""
    return out / FOLDER / re.sub(r'\W+', '-', name.removeprefix(PREFIX)).strip('-')


def write(source: Any, out: Path, say: Callable[[str], None]) -> None:
    """Write the images of a source below ``out``, in a folder per class if it has labels.

    Images that are there already are kept.

    Args:
        source: see :func:`is_hub`; of one split.
        out: folder of the run.
        say: prints a line.

    Raises:
        ValueError: ``datasets`` is not installed, there is no such dataset, or it has no images.
    """
    name = name_of(source)
    try:
        import datasets
    except ImportError as error:
        raise ValueError(
            f'data {name} needs Hugging Face datasets, which is not installed: pip install datasets'
        ) from error
    if isinstance(source, str):
        source = _load(datasets, name)
    kinds = {column: type(feature).__name__ for column, feature in source.features.items()}
    images = [column for column, kind in kinds.items() if kind == 'Image']
    labels = [column for column, kind in kinds.items() if kind == 'ClassLabel']
    if not images:
        raise ValueError(f'data {name} has no column of images, only {", ".join(kinds)}')
    source = source.cast_column(images[0], datasets.Image(decode=False))
    folder = folder_of(name, out)
    say(f'images      {len(source):,} of {name}, written to {folder}')
    for i, row in enumerate(source):
        image, place = row[images[0]], folder
        if labels and row[labels[0]] is not None:
            label = source.features[labels[0]].int2str(row[labels[0]])
            place = folder / re.sub(r'[^\w.-]+', '-', label)
        suffix = Path(image['path'] or '').suffix.lower()
        file = place / f'{i:08d}{suffix if suffix in IMAGE_EXTENSIONS else ".png"}'
        if not file.exists():
            place.mkdir(parents=True, exist_ok=True)
            part = file.with_suffix('.part')
            part.write_bytes(image['bytes'] or Path(image['path']).read_bytes())
            part.replace(file)


def _load(datasets, name: str) -> Any:
    repository, _, split = name.removeprefix(PREFIX).partition(':')
    try:
        return datasets.load_dataset(repository, split=split or 'train')
    except Exception as error:  # of a network, a server or a script: it fails in any way
        raise ValueError(f'data {name}: {type(error).__name__}: {words(error)}') from error


def _is_dataset(source: Any) -> bool:
    return hasattr(source, 'cast_column') and hasattr(source, '_fingerprint')
