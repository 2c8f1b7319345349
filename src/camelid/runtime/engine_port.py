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
from camelid.errors import CamelidError, Overloaded, Unavailable
from camelid.grammar.vocabulary import Vocabulary

from .failure import Failure
from .frames import Abort, Accepted, Adapt, Adapted, Command, Embed, Failed, Idle, Read, Report, Stepped, Submit
from .journal import Entry, Journal
from .pending_adapters import PendingAdapters
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

    def generate(self, request: GenerateRequest) -> AsyncGenerator[list[Token], None]:
        """Yield the tokens of all choices until each has its last one; those that came together are one list.

        Closing the iterator forgets the request and frees what it holds within one step. Raises Overloaded,
        Unavailable, RequestsFailed.
        """

    async def embed(self, request: EmbedRequest) -> tuple[bytes, ...]:
        """Return the vectors of a request's texts, as 32-bit floats, little-endian.

        Raises InvalidRequest, Overloaded, Unavailable, RequestsFailed.
        """

    async def adapt(self, adapt: Adapt) -> None:
        """Take an adapter in, so that requests may name its key.

        Raises NotFound, FormatError, ModelError, OutOfMemory, Unavailable.
        """

    def forget_adapter(self, key: str) -> None:
        """Drop an adapter; requests that use it are finished with it."""

    def stop_choice(self, request_id: str, choice: int) -> None:
        """Give up one choice of a request; no more tokens of it are wanted. The others go on."""

    def stats(self) -> Mapping[str, float]:
        """Return what the engine was doing and had done at its last report."""

    def health(self) -> EngineHealth:
        """Say how the engine is."""

    async def close(self) -> None:
        """Stop the engine. Open requests end with Unavailable."""


class _Stream:
    """One open request and what has arrived for it: tokens, and the error that ends it."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self._tokens: list[Token] = []
        self._error: CamelidError | None = None
        self._arrived: asyncio.Future[None] | None = None  # set while somebody waits

    @property
    def is_over(self) -> bool:
        """True when nothing more is to be taken."""
        return not self._tokens and self._error is None and self.entry.is_complete

    def put(self, token: Token) -> None:
        """Add a token."""
        self._tokens.append(token)
        self._wake()

    def fail(self, error: CamelidError) -> None:
        """End with an error, behind the tokens that are here."""
        self._error = error
        self._wake()

    async def take(self) -> list[Token]:
        """Return all tokens that have arrived, waiting for the first. Raises the error that ended the request."""
        if not self._tokens and self._error is None:
            self._arrived = asyncio.get_running_loop().create_future()
            await self._arrived
        if self._tokens:
            tokens, self._tokens = self._tokens, []
            return tokens
        raise self._error or Unavailable("the engine has ended")

    def _wake(self) -> None:
        arrived, self._arrived = self._arrived, None
        if arrived is not None and not arrived.done():  # done: whoever waited was cancelled
            arrived.set_result(None)


class Streams:
    """The open requests of one engine. `send` puts a command to it."""

    def __init__(self, send: Callable[[Command], None], max_open: int, adapters: Sequence[Adapt] = ()) -> None:
        """Begin without requests; `adapters` are those that the engine was loaded with."""
        self.journal = Journal()
        self.texts = PendingTexts(send, max_open)
        self.adapters = PendingAdapters(send, adapters)
        self.stats: Mapping[str, float] = {}
        self._send = send
        self._max_open = max_open
        self._streams: dict[str, _Stream] = {}

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[list[Token], None]:
        """Put a request to the engine and yield its tokens (see `EnginePort.generate`)."""
        if len(self.journal) >= self._max_open:
            raise Overloaded(f"{len(self.journal)} requests are open, which is the most", retry_after_s=1.0)
        stream = self._streams[request.id] = _Stream(self.journal.open(request))
        try:
            self._send(Submit(request))
            while not stream.is_over:
                yield await stream.take()
        finally:
            del self._streams[request.id]
            if self.journal.get(request.id) is not None:
                self.journal.close(request.id)
                self._send(Abort(request.id))

    @property
    def num_open(self) -> int:
        """Requests that are not complete, of both kinds."""
        return len(self.journal) + len(self.texts)

    def command_of(self, request_id: str) -> Submit | Embed:
        """Return what puts an open request, as far as it has come, to an engine that does not know it."""
        entry = self.journal.get(request_id)
        if entry is None:
            return Embed(self.texts.request(request_id))
        return Submit(entry.resumed(), entry.was_admitted)

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
        elif isinstance(report, Adapted):
            self.adapters.take(report)
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
                # Each stream raises an error of its own: raising writes the traceback into it.
                self._streams[request_id].fail(Failure.of(error).error())

    def fail_all(self, error: CamelidError) -> None:
        """End all open requests with `error`."""
        self.texts.fail_all(error)
        self.adapters.fail_all(error)
        self.fail([entry.request.id for entry in self.journal], error)

    def _take_token(self, token: Token) -> None:
        entry = self.journal.get(token.request_id)
        if entry is not None and entry.accept(token):
            self._streams[token.request_id].put(token)
            if entry.is_complete:
                self.journal.close(token.request_id)
