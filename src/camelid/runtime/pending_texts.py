"""Texts that an engine has been given, or will be, and that wait for their vectors.

They have no progress worth keeping: when an engine dies, the next one is given the same texts again. The front's side
of embeddings, as the journal is of answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from camelid.engine.request import EmbedRequest
from camelid.errors import CamelidError, Overloaded, RequestsFailed

from .failure import Failure
from .frames import Abort, Command, Embed, Read

MAX_DEATHS = 3  # of engines with a request in them, until it is given up


@dataclass
class _Pending:
    request: EmbedRequest
    vectors: asyncio.Future[tuple[bytes, ...]]
    deaths: int = 0


class PendingTexts:
    """The open requests for vectors of one engine. `send` puts a command to it."""

    def __init__(self, send: Callable[[Command], None], max_open: int) -> None:
        self._send = send
        self._max_open = max_open
        self._pending: dict[str, _Pending] = {}

    def __contains__(self, request_id: object) -> bool:
        return request_id in self._pending

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def requests(self) -> list[EmbedRequest]:
        """All that are open, the oldest first."""
        return [pending.request for pending in self._pending.values()]

    def request(self, request_id: str) -> EmbedRequest:
        """Return one that is open."""
        return self._pending[request_id].request

    async def embed(self, request: EmbedRequest) -> tuple[bytes, ...]:
        """Put texts to the engine and wait for their vectors (see `EnginePort.embed`)."""
        if len(self._pending) >= self._max_open:
            raise Overloaded(f"{len(self._pending)} requests for embeddings are open", retry_after_s=1.0)
        vectors: asyncio.Future[tuple[bytes, ...]] = asyncio.get_running_loop().create_future()
        self._pending[request.id] = _Pending(request, vectors)
        try:
            self._send(Embed(request))
            return await vectors
        finally:
            if self._pending.pop(request.id, None) is not None:
                self._send(Abort(request.id))

    def take(self, report: Read) -> None:
        """Hand out what is complete."""
        for found in report.complete:
            pending = self._pending.pop(found.request_id, None)
            if pending is not None and not pending.vectors.done():
                pending.vectors.set_result(found.vectors)

    def fail(self, request_ids: Iterable[str], error: CamelidError) -> None:
        """End requests with `error`; ids that are not open are ignored."""
        for request_id in request_ids:
            pending = self._pending.pop(request_id, None)
            if pending is not None and not pending.vectors.done():
                pending.vectors.set_exception(Failure.of(error).error())

    def fail_all(self, error: CamelidError) -> None:
        """End all open requests with `error`."""
        self.fail(list(self._pending), error)

    def blame(self, request_ids: Iterable[str]) -> None:
        """Note that an engine died with these in it; those that saw too many die end with RequestsFailed."""
        for request_id in [one for one in request_ids if one in self._pending]:
            pending = self._pending[request_id]
            pending.deaths += 1
            if pending.deaths >= MAX_DEATHS:
                reason = f"the engine stopped {pending.deaths} times while it worked on it"
                self.fail([request_id], RequestsFailed((request_id,), reason))
