"""A matrix worked on slab by slab: in order, on several threads, and with few slabs in memory at a time.

What is done to a slab is the caller's. Separate because quantizing and converting go through files in the same way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from camelid.formats.mapping import let_go

SLAB_WEIGHTS = 1 << 20  # worked on at once in a thread: 4 MiB
THREADS = 2  # one may decode in numpy or wait for the disk while the other has all cores encode
AHEAD = 4  # slabs that may wait to be written

Bytes = NDArray[np.uint8]
Progress = Callable[[int], object]  # told how many bytes of the source were done since the last call


class Slabs:
    """Threads that work on slabs. Use it in a `with` statement."""

    def __init__(self, progress: Progress) -> None:
        self._pool, self._progress = ThreadPoolExecutor(THREADS), progress

    def each(self, rows: Bytes, columns: int, work: Callable[[Bytes], Bytes], multiple: int = 1) -> Iterator[Bytes]:
        """Yield what `work` makes of each slab of a matrix, in order. A slab is a multiple of so many rows."""
        step = max(1, SLAB_WEIGHTS // columns // multiple) * multiple
        waiting: deque[tuple[Bytes, Future[Bytes]]] = deque()
        for start in range(0, len(rows), step):
            slab = rows[start : start + step]
            waiting.append((slab, self._pool.submit(work, slab)))
            if len(waiting) > AHEAD:
                yield from self._finish(*waiting.popleft())
        while waiting:
            yield from self._finish(*waiting.popleft())

    def _finish(self, slab: Bytes, found: Future[Bytes]) -> Iterator[Bytes]:
        yield found.result()
        let_go(slab)  # by now it is written, even where nothing was done to it
        self._progress(slab.nbytes)

    def __enter__(self) -> Slabs:
        return self

    def __exit__(self, *exc: object) -> None:
        self._pool.shutdown(cancel_futures=True)
