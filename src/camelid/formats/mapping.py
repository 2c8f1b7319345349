"""Files mapped into memory, read-only: the one place that opens a weights file.

Separate so that both readers refuse the same things in the same words. It knows no format.

A mapping costs no memory until it is touched, and the page cache is shared by every process that maps the same file.
Its price: should another program truncate the file, touching the lost part ends this process with SIGBUS. Files of a
store are replaced by renaming, which leaves a mapping intact.
"""

from __future__ import annotations

import mmap
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camelid.errors import FormatError, NotFound, TruncatedFile


def map_file(path: Path) -> NDArray[np.uint8]:
    """Return the bytes of a file as a read-only mapping, which lives as long as any view of it.

    Raises NotFound when it cannot be opened, TruncatedFile when it is empty, FormatError when it is no regular file.
    """
    try:
        mode = path.stat().st_mode  # before opening, which would wait for ever on a named pipe
        if not stat.S_ISREG(mode):
            raise FormatError(path, "kind of file", stat.filemode(mode), "only a regular file can be mapped")
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise TruncatedFile(path, "size", 0, "a weights file is never empty", hint="download it again")
            return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype=np.uint8)
    except OSError as error:
        raise cannot_open(path, error) from error
    except ValueError as error:  # a zero byte in the path
        raise NotFound(f"{str(path)!r}: no such file: {error}") from error


def let_go(rows: NDArray[np.uint8]) -> None:
    """Give back the memory that a view of a mapping takes. It is there again, from the file, when it is touched.

    For those who go once through a file larger than memory; a view of no mapping is left as it is.
    """
    owner: Any = rows
    while isinstance(owner, np.ndarray | memoryview):
        owner = owner.base if isinstance(owner, np.ndarray) else owner.obj
    if not isinstance(owner, mmap.mmap) or not hasattr(mmap, "MADV_DONTNEED") or not rows.flags.c_contiguous:
        return
    start = rows.ctypes.data - np.frombuffer(owner, np.uint8).ctypes.data
    begin, end = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, (start + rows.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if begin < end:
        owner.madvise(mmap.MADV_DONTNEED, begin, end - begin)


def cannot_open(path: Path, error: OSError) -> NotFound:
    """Return the error for a path that the system does not let us open."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return NotFound(f"{path}: no such file or folder", hint="check the path")
    return NotFound(f"{path}: cannot be opened: {error.strerror}", hint="check the permissions of the file")
