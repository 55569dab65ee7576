"""Which files are images: searched in a folder, or named in a list."""

import codecs
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

try:
    from pillow_heif import register_heif_opener

    register_heif_opener()
    _HEIF = ('.heic', '.heif')
except ImportError:
    _HEIF = ()

IMAGE_EXTENSIONS = (
    *('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.apng', '.webp', '.avif', '.gif', '.bmp', '.dib'),
    *('.tif', '.tiff', '.jp2', '.j2k', '.pbm', '.pgm', '.ppm', '.pnm', '.ras', *_HEIF),
)
# What people take for images too → what makes it one.
_OTHERS = dict.fromkeys(('.heic', '.heif'), 'pip install pillow-heif') | dict.fromkeys(
    ('.cr2', '.cr3', '.nef', '.arw', '.dng', '.orf', '.rw2', '.raf', '.jxl', '.psd', '.svg'),
    'convert to JPEG, PNG or TIFF',
)
# What `mmebm restore` writes beside or below the images is none of them.
_RESTORED = re.compile(
    rf'({"|".join(map(re.escape, IMAGE_EXTENSIONS))})'
    r'\.(restored\.png|strip\.png|animation\.gif|animation\.webp)',
    re.IGNORECASE,
)
_SPLITS = {'train', 'training', 'val', 'valid', 'validation', 'test', 'testing'}


def find_images(path: str | Path) -> tuple[list[Path], list[str]]:
    """An image file, or all images below a folder; see :func:`search`."""
    path = Path(path).expanduser()
    if path.is_file():
        return [path], []
    names, notes = search(path)
    return [path / name for name in names], notes


def search(
    folder: str | Path, extensions: Iterable[str] = IMAGE_EXTENSIONS
) -> tuple[list[str], list[str]]:
    """Find all images below a folder.

    Returns:
        Sorted relative paths, with ``/``; and a note, with a count, for each suffix that people
        take for images and that is not read.

    Raises:
        FileNotFoundError: there is no such folder, or no image in it.
    """
    if not os.path.isdir(folder):
        raise FileNotFoundError(f'no such image or folder: {os.path.abspath(folder)}')
    files = sorted(walk(folder))
    endings = Counter(os.path.splitext(file)[1].lower() or file for file in files).most_common()
    notes = [
        f'{n} × {e} left out: {_OTHERS[e]}' for e, n in endings if e in _OTHERS.keys() - extensions
    ]
    names = [file for file in files if file.lower().endswith(tuple(extensions))]
    if not names:
        found = ', '.join(f'{n} × {ending}' for ending, n in endings[:5]) or 'none'
        raise FileNotFoundError(
            f'No image below {os.path.abspath(folder)}. Files found: {found}. '
            + ''.join(f'{note}. ' for note in notes)
            + f'Images end in {" ".join(sorted(extensions))}'
        )
    return names, notes


def walk(
    folder: str | Path, prefix: str = '', above: frozenset[str] = frozenset()
) -> Iterator[str]:
    """Paths of all files below a local folder, relative to it, with ``/``.

    Without hidden files and folders (``.name``, ``__MACOSX``) and what ``mmebm restore`` wrote;
    symbolic links are followed, but not to one of the folders ``above``.
    """
    real = os.path.realpath(folder)
    if real in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith('.') or entry.name == '__MACOSX':
                continue
            if entry.is_dir():
                yield from walk(entry.path, f'{prefix}{entry.name}/', above | {real})
            elif entry.is_file() and not _RESTORED.search(entry.name):
                yield prefix + entry.name


def read_list(file: str | Path) -> list[Path]:
    """Absolute paths of the files that a text names, one a line, relative to its folder.

    Without blank lines and comments (``#`` before what is no file).

    Raises:
        FileNotFoundError: a file is missing, or none is named.
        ValueError: it is no text in UTF-8, or in UTF-16 with its mark.
    """
    file, folder, data = Path(file), Path(file).parent.absolute(), Path(file).read_bytes()
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        lines = data.decode('utf-16' if wide else 'utf-8-sig').splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f'{file} is no text file of paths') from error
    lines = [line.strip() for line in lines if line.strip()]
    paths = [folder / n for n in lines if not n.startswith('#') or (folder / n).is_file()]
    # backslashes separate folders, where no file has such a name
    paths = [path if path.is_file() else Path(str(path).replace('\\', '/')) for path in paths]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise FileNotFoundError(f'{file} names {len(missing)} files that are missing: {missing[0]}')
    if not paths:
        raise FileNotFoundError(f'{file} names no image')
    return paths


def classes_of(names: Sequence[str]) -> list[str]:
    """The class folder of each relative path, if all lie in one of two or more; else none.

    It is the first folder, or the second one where all of the first are splits (train, test, ...).
    """
    folders = [name.split('/')[:-1] for name in names]
    if all(parts and parts[0].lower() in _SPLITS for parts in folders):
        folders = [parts[1:] for parts in folders]
    classes = [parts[0] for parts in folders if parts]
    return classes if len(classes) == len(names) and len(set(classes)) > 1 else []
