"""The connection to an AIME API server: one message there, one answer back, or the reason why there is none.

No body is ever logged: both directions carry keys. Knows no meaning of any message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2

from camelid.errors import InvalidSetting

CONNECT_S = 10.0
ANSWER_S = 30.0
POLL_EXTRA_S = 15.0  # a request for jobs is held for its time-out, and answered a little later


@dataclass(frozen=True)
class Broken:
    """No answer: the server cannot be reached, failed, or said what is no JSON. `has_failed`: it answered with 500."""

    reason: str
    has_failed: bool = False


class Connection:
    """HTTP to one API server. Used from one event loop; close it."""

    def __init__(self, url: str) -> None:
        """Prepare to talk to the server at `url`. Raises InvalidSetting."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidSetting(f"the API server {url!r} is no http or https address", hint="--api-server http://HOST")
        self.is_open_to_readers = parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1")
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=16)
        self._client = httpx2.AsyncClient(base_url=url, limits=limits, follow_redirects=False, trust_env=False)

    async def tell(
        self, path: str, body: Mapping[str, Any] | Sequence[Mapping[str, Any]], answer_s: float = ANSWER_S
    ) -> Any | Broken:
        """Send `body` and return the answer's JSON, or Broken. An answer may take `answer_s` seconds."""
        timeout = httpx2.Timeout(answer_s, connect=CONNECT_S)
        try:
            answer = await self._client.post(path, json=body, timeout=timeout)
        except httpx2.HTTPError as error:
            return Broken(f"{type(error).__name__}: {error}"[:200])
        if answer.status_code >= 400:
            return Broken(f"{path} was answered with {answer.status_code}", has_failed=answer.status_code == 500)
        try:
            return answer.json()
        except ValueError:
            return Broken(f"{path} was answered with something that is no JSON")

    async def close(self) -> None:
        """Break off what is under way."""
        await self._client.aclose()
