"""Checkpoints that are whole if they exist, whenever the process is killed or the disk is full."""

import errno
import os
import shutil
from pathlib import Path
from threading import get_ident

from mmengine.fileio import LocalBackend
from mmengine.fileio.backends import register_backend


class WholeFilesBackend(LocalBackend):
    """MMEngine's access to local files, except that a file gets its name once it is written.

    MMEngine's own writes under the final name: a run killed then leaves a file that cannot be read.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write a file, whose folder is made.

        Raises:
            OSError: it cannot be written. What was under its name before stays.
        """
        path = Path(filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f'.{os.getpid()}.{get_ident()}.unfinished')
        try:
            with unfinished.open('wb') as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())  # else a machine that loses power keeps the name only
            os.replace(unfinished, path)
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            needed, free = len(obj) / 1e6, shutil.disk_usage(path.parent).free / 1e6
            room = f'{needed:,.1f} MB are needed, {free:,.1f} MB are free. Earlier files are whole'
            raise OSError(error.errno, f'{error.strerror}; {room}', str(path)) from error


def register_whole_files() -> None:
    """Make MMEngine write local files with :class:`WholeFilesBackend` in this process."""
    register_backend('local', WholeFilesBackend, force=True, prefixes='')
