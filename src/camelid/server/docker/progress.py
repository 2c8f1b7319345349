"""How far a pull or push is, in Docker Model Runner's two encodings. Pure.

One JSON object a line. A client that accepts exactly `application/json` gets that; all others get text/plain whose
lines are HTML-escaped, which the original does and its command undoes.
"""

from __future__ import annotations

import html
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from camelid.store.manifests import Layer, Manifest
from camelid.store.transfer import Watcher

JSON, TEXT = "application/json", "text/plain"
EVERY_S, EVERY_BYTES = 0.1, 1 << 20
Mode = Literal["pull", "push"]
Line = dict[str, Any]


def media_type(accept: str) -> str:
    """Return the media type for a client's Accept header."""
    return JSON if accept == JSON else TEXT


def written(line: Line, kind: str) -> bytes:
    """Return a line in the encoding of a media type."""
    text = msgspec.json.encode(line).decode()
    return f"{text if kind == JSON else html.escape(text, quote=True)}\n".encode()


def megabytes(size: int) -> str:
    """Return a size as the progress texts have it."""
    return f"{size / 1e6:.2f} MB"


@dataclass
class Progress:
    """Turns a watcher's news into lines: at most one in 100 ms or a MiB, and one at the end of each layer."""

    say: Callable[[Line], object]
    mode: Mode
    clock: Callable[[], float] = time.monotonic
    total: int = 0
    num_missing: int = 0
    _id: str = ""
    _size: int = 0
    _current: int = 0
    _all: int = 0
    _said_at: float = field(default=-1.0)
    _said_bytes: int = 0

    def confirm(self, manifest: Manifest, need_bytes: int) -> None:
        """Take what is to be moved."""
        self.total, self.num_missing = manifest.size, need_bytes

    def watcher(self) -> Watcher:
        """Return the watcher that a transfer tells."""
        return Watcher(begin=self._begin, done=self._done)

    def _begin(self, layer: Layer) -> None:
        self._id = "uploading" if self.mode == "push" else str(layer.digest)
        self._size, self._current = layer.size, 0

    def _done(self, size: int) -> None:
        self._current += size
        self._all += size
        now = self.clock()
        is_due = now - self._said_at >= EVERY_S or self._all - self._said_bytes >= EVERY_BYTES
        if not is_due and self._current < self._size:
            return
        self._said_at, self._said_bytes = now, self._all
        verb = "Downloaded" if self.mode == "pull" else "Uploaded"
        self.say(
            {
                "type": "progress",
                "message": f"{verb}: {megabytes(self._all)}",
                "total": self.total,
                "layer": {"id": self._id, "size": self._size, "current": self._current},
                "mode": self.mode,
            }
        )


def success(message: str, mode: Mode) -> Line:
    """Return the last line of what went well."""
    return {"type": "success", "message": message, "mode": mode}


def failure(message: str, mode: Mode) -> Line:
    """Return the last line of what did not."""
    return {"type": "error", "message": message, "mode": mode}
