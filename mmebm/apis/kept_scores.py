"""Scores of images kept in files, so that an interrupted ranking goes on."""

import hashlib
import io
from dataclasses import fields
from pathlib import Path

import numpy as np

from ..utils.whole_files import WholeFilesBackend


class KeptScores:
    """A folder with a file for each scored image, named by all that its scores depend on.

    That is the content of the image's file, and ``depends_on``. So an image that was moved or
    renamed is found; one that was changed is not, nor is any after another network.

    Args:
        folder: made when the first image is kept; None keeps nothing.
        depends_on: what else the scores depend on.
    """

    def __init__(self, folder: str | Path | None, *depends_on: bytes):
        self.folder = None if folder is None else Path(folder)
        self._depends_on = hashlib.sha256()
        for part in depends_on:
            self._depends_on.update(hashlib.sha256(part).digest())

    def get(self, kind: type, path: Path):
        """What was kept of an image, as the dataclass ``kind`` with this path; None if nothing."""
        file = self._file(kind, path)
        if file is None or not file.is_file():
            return None
        with np.load(file, allow_pickle=False) as arrays:
            return kind(path=path, **{k: v if v.ndim else v.item() for k, v in arrays.items()})

    def put(self, scores) -> None:
        """Keep the scores of an image, a dataclass of numbers and arrays with its ``path``."""
        file = self._file(type(scores), scores.path)
        if file is None:
            return
        data = io.BytesIO()
        np.savez_compressed(data, **{k: v for k, v in vars(scores).items() if k != 'path'})
        WholeFilesBackend().put(data.getvalue(), file)

    def _file(self, kind: type, path: Path) -> Path | None:
        if self.folder is None or not path.is_file():
            return None
        key = self._depends_on.copy()
        # another version's fields may differ
        key.update(repr([field.name for field in fields(kind)]).encode())
        key.update(path.read_bytes())
        return self.folder / f'{key.hexdigest()[:32]}.{kind.__name__}.npz'
