"""What the rest of the runtime sees of an engine, wherever it runs: in a supervised process, or in a thread of this
one.

`Streams` is the half that both share: the open requests, and the tokens that wait to be taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from camelid.engine.request import EmbedRequest, GenerateRequest, Token
from camelid.errors import CamelidError, Overloaded
from camelid.grammar.vocabulary import Vocabulary

from .failure import Failure
from .frames import Abort, Accepted, Command, Failed, Idle, Read, Report, Stepped, Submit
from .journal import Entry, Journal
from .pending_texts import PendingTexts


@dataclass(frozen=True)
class EngineHealth:
    """How an engine is. `is_fresh`: it runs, and its last sign of life is recent. `num_restarts` counts engines that
    died.
    """

    is_started: bool
    is_fresh: bool
    num_open: int
    num_restarts: int = 0


class EnginePort(Protocol):
    """An engine that requests can be put to, from one asyncio loop."""

    @property
    def backend(self) -> str:
        """What it computes on, for people to read."""

    def learn(self, vocabulary: Vocabulary) -> None:
        """Take the vocabulary, without which requests with a grammar are refused. Doing it again does nothing."""

    @property
    def has_learned(self) -> bool:
        """True once it has the vocabulary."""

    def generate(self, request: GenerateRequest) -> AsyncGenerator[Token, None]:
        """Yield the tokens of all choices until each has its last one.

        Closing the iterator forgets the request and frees what it holds within one step. Raises Overloaded,
        Unavailable, RequestsFailed.
        """

    async def embed(self, request: EmbedRequest) -> tuple[bytes, ...]:
        """Return the vectors of a request's texts, as 32-bit floats, little-endian.

        Raises InvalidRequest, Overloaded, Unavailable, RequestsFailed.
        """

    def stop_choice(self, request_id: str, choice: int) -> None:
        """Give up one choice of a request; no more tokens of it are wanted. The others go on."""

    def stats(self) -> Mapping[str, float]:
        """Return what the engine was doing and had done at its last report."""

    def health(self) -> EngineHealth:
        """Say how the engine is."""

    async def close(self) -> None:
        """Stop the engine. Open requests end with Unavailable."""


@dataclass(frozen=True)
class _Stream:
    """One open request and what has arrived for it: tokens, or the error that ends it."""

    entry: Entry
    arrived: asyncio.Queue[Token | CamelidError]


class Streams:
    """The open requests of one engine. `send` puts a command to it."""

    def __init__(self, send: Callable[[Command], None], max_open: int) -> None:
        self.journal = Journal()
        self.texts = PendingTexts(send, max_open)
        self.stats: Mapping[str, float] = {}
        self._send = send
        self._max_open = max_open
        self._streams: dict[str, _Stream] = {}

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Token, None]:
        """Put a request to the engine and yield its tokens (see `EnginePort.generate`)."""
        if len(self.journal) >= self._max_open:
            raise Overloaded(f"{len(self.journal)} requests are open, which is the most", retry_after_s=1.0)
        stream = self._streams[request.id] = _Stream(self.journal.open(request), asyncio.Queue())
        try:
            self._send(Submit(request))
            while not (stream.entry.is_complete and stream.arrived.empty()):
                item = await stream.arrived.get()
                if isinstance(item, CamelidError):
                    raise item
                yield item
        finally:
            del self._streams[request.id]
            if self.journal.get(request.id) is not None:
                self.journal.close(request.id)
                self._send(Abort(request.id))

    @property
    def num_open(self) -> int:
        """Requests that are not complete, of both kinds."""
        return len(self.journal) + len(self.texts)

    def stop_choice(self, request_id: str, choice: int) -> None:
        """Give up one choice of a request (see `EnginePort.stop_choice`)."""
        entry = self.journal.get(request_id)
        if entry is not None:
            entry.stop(choice)
            if entry.is_complete:
                self.journal.close(request_id)
            self._send(Abort(request_id, choice))

    def take(self, report: Report) -> None:
        """Take a report of the engine in. Raises ProtocolError when it contradicts what was reported before."""
        if isinstance(report, (Stepped, Read, Idle)):
            self.stats = report.stats
        if isinstance(report, Read):
            self.texts.take(report)
        if isinstance(report, Stepped):
            for token in report.tokens:
                self._take_token(token)
        elif isinstance(report, Accepted):
            entry = self.journal.get(report.request_id)
            if entry is not None:
                entry.was_admitted = True
        elif isinstance(report, Failed):
            self.fail([report.request_id], report.failure.error())

    def fail(self, request_ids: Sequence[str], error: CamelidError) -> None:
        """End requests with `error`; ids that are not open are ignored."""
        self.texts.fail(request_ids, error)
        for request_id in request_ids:
            if self.journal.get(request_id) is not None:
                self.journal.close(request_id)
                own = Failure.of(
                    error
                ).error()  # each stream raises one of its own: raising writes the traceback into it
                self._streams[request_id].arrived.put_nowait(own)

    def fail_all(self, error: CamelidError) -> None:
        """End all open requests with `error`."""
        self.texts.fail_all(error)
        self.fail([entry.request.id for entry in self.journal], error)

    def _take_token(self, token: Token) -> None:
        entry = self.journal.get(token.request_id)
        if entry is not None and entry.accept(token):
            self._streams[token.request_id].arrived.put_nowait(token)
            if entry.is_complete:
                self.journal.close(token.request_id)
