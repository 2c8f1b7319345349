"""A short way for the pieces of a streamed answer: from the stream straight to the connection.

The way through ASGI has six layers, each of which wraps `send`; their work is done with the headers, and a piece for
every token pays for them all the same. What needs care (a slow reader, the end of the answer, HTTP without chunks)
takes the long way. Separate because both ends use it and know nothing of each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import ref

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

ShortWay = Callable[[bytes], bool]
"""Takes a piece, which is not empty, of an answer whose headers are out; returns False if it has to go the long way."""

_EXTENSION = "camelid.short_way"


def short_way(scope: Scope) -> ShortWay:
    """Return the short way of a request; one that is never open where the server has none."""
    found: ShortWay | None = scope.get("extensions", {}).get(_EXTENSION)
    return found or _closed


def offer(cycle: RequestResponseCycle) -> None:
    """Offer the short way to whoever answers the request of `cycle`, which it does not keep alive: its scope is its
    own.
    """
    weakly = ref(cycle)

    def write(piece: bytes) -> bool:
        cycle = weakly()
        if cycle is None:
            return False
        is_open = cycle.chunked_encoding and cycle.response_started and not cycle.response_complete
        if not is_open or cycle.disconnected or cycle.flow.write_paused:
            return False
        cycle.transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        return True

    extensions: dict[str, Any] = dict(cycle.scope.get("extensions") or {})
    cycle.scope["extensions"] = extensions | {_EXTENSION: write}


def _closed(piece: bytes) -> bool:
    return False
