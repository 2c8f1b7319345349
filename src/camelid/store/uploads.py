"""How a blob goes to Ollama's registry: in parts, each to where the registry sends it, closed by a checksum of them.

Other registries take a blob in one request (`registry.py`). A part that is sent on to another host goes there without
credentials, since the address itself is signed.

Source: Ollama's upload, version 0.33.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, cast
from urllib.parse import urlencode

from camelid.errors import RegistryError

from .http import Answer, Http, sent_on
from .manifests import Layer

NUM_PARTS, MIN_PART_BYTES, MAX_PART_BYTES = 16, 100_000_000, 1_000_000_000
ATTEMPTS = 4
MAX_ANSWER_BYTES = 64 << 10

# Told the URL, and the headers of a 401 if there was one; nothing is returned for another host than the registry's.
Authorization = Callable[[str, Mapping[str, str] | None], Mapping[str, str]]


class Part:
    """A stretch of a file as the body of a request, hashed while it is read."""

    def __init__(self, file: IO[bytes], start: int, size: int) -> None:
        self._file, self._start, self.size = file, start, size
        self.rewind()

    def rewind(self) -> None:
        """Begin again, for another attempt."""
        self._file.seek(self._start)
        self._left = self.size
        self.md5 = hashlib.md5(usedforsecurity=False)

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, none at the end of the part."""
        content = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(content)
        self.md5.update(content)
        return content


def upload_in_parts(http: Http, authorize: Authorization, begun: Answer, layer: Layer, path: Path) -> None:
    """Send a blob to the session that `begun` opened. Raises RegistryError."""
    session, sums = _next_of(begun.headers, begun.url), []
    with path.open("rb") as file:
        for start in range(0, layer.size, part_bytes(layer.size)):
            part = Part(file, start, min(part_bytes(layer.size), layer.size - start))
            session = _send(http, authorize, session, part, start)
            sums.append(part.md5.digest())
    etag = f"{hashlib.md5(b''.join(sums), usedforsecurity=False).hexdigest()}-{len(sums)}"
    url = f"{session}{'&' if '?' in session else '?'}{urlencode({'digest': str(layer.digest), 'etag': etag})}"
    headers = {**authorize(url, None), "Content-Length": "0"}
    answer = http.read("PUT", url, headers, most_bytes=MAX_ANSWER_BYTES)
    if answer.status == 401:
        headers = {**authorize(url, answer.headers), "Content-Length": "0"}
        answer = http.read("PUT", url, headers, most_bytes=MAX_ANSWER_BYTES)
    if answer.status >= 300:
        raise RegistryError(f"the registry answers {answer.status} at the end of {layer.digest}", status=answer.status)


def part_bytes(size: int) -> int:
    """Return how long the parts of a blob are."""
    return min(max(-(-size // NUM_PARTS), MIN_PART_BYTES), MAX_PART_BYTES)


def _send(http: Http, authorize: Authorization, session: str, part: Part, start: int) -> str:
    """Send one part, and return where the next one goes."""
    refused: Mapping[str, str] | None = None
    status: int | None = None
    for _ in range(ATTEMPTS):
        part.rewind()
        headers = {
            **authorize(session, refused),
            "Content-Type": "application/octet-stream",
            "Content-Length": str(part.size),
            "Content-Range": f"{start}-{start + part.size - 1}",
            "X-Redirect-Uploads": "1",
        }
        with http.open("PATCH", session, headers, body=cast("IO[bytes]", part), follow=False) as (response, _):
            status, answered = response.status, dict(response.headers.items())
        if status == 307:
            _send_on(http, sent_on(session, _location(answered)), part)
        if status in (202, 307):
            return _next_of(answered, session)
        refused = answered if status == 401 else None
        if status not in (401, 408, 429, 500, 502, 503, 504):
            break
    raise RegistryError(f"the registry answers {status} while a blob is sent", status=status)


def _send_on(http: Http, url: str, part: Part) -> None:
    """Send a part to the place that the registry signed for it."""
    part.rewind()
    with http.open("PUT", url, {"Content-Length": str(part.size)}, body=cast("IO[bytes]", part), follow=False) as (
        response,
        _,
    ):
        if response.status >= 300:
            raise RegistryError(f"the registry's storage answers {response.status}", status=response.status)


def _next_of(headers: Mapping[str, str], url: str) -> str:
    """Return the session's address for what comes next. Raises RegistryError."""
    lower = {name.lower(): value for name, value in headers.items()}
    return sent_on(url, lower.get("docker-upload-location") or _location(lower))


def _location(headers: Mapping[str, str]) -> str:
    found = next((value for name, value in headers.items() if name.lower() == "location"), "")
    if not found:
        raise RegistryError("the registry does not say where a blob is to be sent")
    return found
