"""A file is hashed while it is written: in order, as far as it is whole, by a thread that follows the writers.

Separate because writers come in any order and hashes do not. What it reads was written a moment ago, so it comes from
memory, and when the last byte arrives the digest is nearly ready. It knows no digests' meaning.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Protocol

_READ_BYTES = 1 << 20


class Hash(Protocol):
    """What `hashlib` makes."""

    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


class Follower:
    """Hashes of a file's first bytes. `reach` says how far the file is whole; `finish` waits for all of it."""

    def __init__(self, file: int, hashes: Sequence[Hash]) -> None:
        self._file, self._hashes = file, hashes
        self._condition = threading.Condition()
        self._whole, self._is_last = 0, False
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="camelid-hash", daemon=True)
        self._thread.start()

    def reach(self, position: int) -> None:
        """Say that the bytes before `position` are written."""
        with self._condition:
            self._whole = max(self._whole, position)
            self._condition.notify()

    def finish(self) -> None:
        """Return when all that was reached is hashed. Raises OSError when it could not be read."""
        with self._condition:
            self._is_last = True
            self._condition.notify()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def abandon(self) -> None:
        """Stop soon, without a result."""
        with self._condition:
            self._whole, self._is_last = 0, True
            self._condition.notify()
        self._thread.join()

    def _run(self) -> None:
        position = 0
        try:
            while (end := self._next(position)) > position:
                content = os.pread(self._file, min(end - position, _READ_BYTES), position)
                if not content:
                    raise OSError(f"the file ends at {position}")
                for state in self._hashes:
                    state.update(content)
                position += len(content)
        except OSError as error:
            self._error = error

    def _next(self, position: int) -> int:
        """Wait until there is more than `position`, and return how far it goes; `position` at the end."""
        with self._condition:
            while self._whole <= position and not self._is_last:
                self._condition.wait()
            return max(self._whole, position)
