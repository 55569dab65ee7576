"""Which files are images: searched in a folder, or named in a list."""

import codecs
import os
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
_SPLITS = {'train', 'training', 'val', 'valid', 'validation', 'test', 'testing'}


def find_images(path: str | Path) -> tuple[list[Path], list[str]]:
    """An image file, or all images below a folder, sorted; and a note for each kind left out.

    Raises:
        FileNotFoundError: there is no such file or folder, or no image in the folder.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return [path], []
    if not path.is_dir():
        raise FileNotFoundError(f'no such image or folder: {path}')
    files = sorted(walk(path))
    images = [path / file for file in files if file.lower().endswith(IMAGE_EXTENSIONS)]
    if not images:
        raise FileNotFoundError(f'No image below {path.absolute()}. {contents(files)}')
    return images, left_out(files)


def walk(folder: str | Path) -> Iterator[str]:
    """Paths of all files below a local folder, relative to it, with ``/``.

    Without hidden files and folders (``.name``, ``__MACOSX``); symbolic links are followed.
    """

    def below(path: str, prefix: str, above: frozenset[str]) -> Iterator[str]:
        real = os.path.realpath(path)
        if real in above:  # a link to a folder that holds it
            return
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith('.') or entry.name == '__MACOSX':
                    continue
                if entry.is_dir():
                    yield from below(entry.path, f'{prefix}{entry.name}/', above | {real})
                elif entry.is_file():
                    yield prefix + entry.name

    return below(os.fspath(folder), '', frozenset())


def left_out(files: Iterable[str]) -> list[str]:
    """A note, with a count, for each suffix that people take for images and that is not read."""
    endings = Counter(os.path.splitext(file)[1].lower() for file in files)
    kinds = [(n, e) for e, n in endings.most_common() if e in _OTHERS and e not in IMAGE_EXTENSIONS]
    return [f'{n} × {ending} left out: {_OTHERS[ending]}' for n, ending in kinds]


def contents(files: Sequence[str], extensions: Iterable[str] = IMAGE_EXTENSIONS) -> str:
    """What a folder without images holds, and what would be read."""
    endings = Counter(os.path.splitext(file)[1].lower() or file for file in files)
    found = ', '.join(f'{n} × {ending}' for ending, n in endings.most_common(5)) or 'none'
    notes = ''.join(f' {note}.' for note in left_out(files))
    return f'Files found: {found}.{notes} Taken for images: {" ".join(sorted(extensions))}'


def read_list(file: str | Path) -> list[Path]:
    """Absolute paths of the files that a text names, one a line, relative to its folder.

    Blank lines and comments (``#``) are skipped; backslashes separate folders where no file has
    such a name.

    Raises:
        FileNotFoundError: a file is missing, or none is named.
        ValueError: it is no text in UTF-8, or in UTF-16 with its mark.
    """
    file = Path(file)
    folder = file.parent.absolute()
    paths = [folder / line for line in lines_of(file.read_bytes(), str(file), str(folder))]
    paths = [p if p.is_file() else Path(str(p).replace('\\', '/')) for p in paths]
    missing = [path for path in paths if not path.is_file()]
    if missing or not paths:
        first = f'{len(missing)} files that do not exist, the first is ' + ''.join(
            map(str, missing[:1])
        )
        raise FileNotFoundError(f'{file} names {first if missing else "no image"}')
    return paths


def lines_of(data: bytes, name: str, folder: str) -> list[str]:
    """The lines of a list of files in a folder, without byte-order mark, blanks and comments.

    Raises:
        ValueError: ``data``, of a file of that name, is no text.
    """
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode('utf-16' if wide else 'utf-8-sig')
    except UnicodeDecodeError as error:
        raise ValueError(f'{name} is no text file of paths') from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return [n for n in lines if not n.startswith('#') or os.path.exists(os.path.join(folder, n))]


def class_folders(names: Sequence[str]) -> list[str]:
    """The first folders of relative paths, if all lie in one of two or more; splits are none."""
    if not all('/' in name for name in names):
        return []
    classes = sorted({name.split('/')[0] for name in names})
    return classes if len(classes) > 1 and not {c.lower() for c in classes} <= _SPLITS else []
