"""Keep freed memory in the process, for training on a CPU."""

import ctypes
import sys

# Parameters of mallopt, see its manual page.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """Make the C library keep freed memory, for this process to reuse.

    A training step frees all that it stored for its derivatives. glibc returns that memory to the
    system, and the next step gets it back page by page, which takes up to a tenth of the time on a
    CPU. Does nothing except on Linux with glibc.
    """
    if sys.platform != 'linux':
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, 'mallopt'):
        libc.mallopt(_MMAP_THRESHOLD, 32 * 2**20)  # glibc's maximum; larger ones are returned
        libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
