"""The loop of an engine: obey what came in, make one step, report it. The same in the engine process and in the
engine thread.

It speaks ids only: no text, no files. The line it is given may be a socket or a queue.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Protocol

from camelid.engine.request import Embedded, EmbedRequest, GenerateRequest, Token
from camelid.errors import CamelidError, Overloaded, RequestsFailed
from camelid.grammar.vocabulary import Vocabulary

from .failure import Failure
from .frames import (
    Abort,
    Accepted,
    Adapt,
    Adapted,
    Command,
    Embed,
    Failed,
    ForgetAdapter,
    Idle,
    Learn,
    Read,
    Report,
    Stepped,
    Submit,
)

ADAPTING_LOOK_S = 0.05  # how often it looks whether an adapter is there
PREPARING_LOOK_S = 0.002  # how often it looks whether a grammar is compiled, when there is nothing else to do
IDLE_REPORT_S = 1.0  # an idle engine says so this often: the front's health follows within two of them


class Steppable(Protocol):
    """What the loop needs of an engine."""

    def submit(self, request: GenerateRequest) -> None:
        """Take a request in. Raises Overloaded when the queue is full."""

    def learn(self, vocabulary: Vocabulary) -> None:
        """Take the vocabulary that grammars need."""

    def prepare(self, request: GenerateRequest) -> Future[None] | None:
        """Begin what `submit` would have to wait for; return what tells that it is done, None for nothing."""

    def abort(self, request_id: str, choice: int | None = None) -> None:
        """Forget a request or one choice of it; what is unknown is ignored."""

    def step(self) -> list[Token]:
        """Make one step. Raises RequestsFailed for requests that it gave up."""

    def has_work(self) -> bool:
        """True while a request is not complete."""

    def adapt(self, key: str, path: str) -> None:
        """Begin to take an adapter in."""

    def adapted(self) -> list[tuple[str, CamelidError | None]]:
        """Return the adapters that are there since this was asked last, or why they cannot be."""

    def is_adapting(self) -> bool:
        """True while an adapter is being taken in."""

    def forget_adapter(self, key: str) -> None:
        """Drop an adapter."""

    def submit_texts(self, request: EmbedRequest) -> None:
        """Take texts in. Raises Overloaded when the queue is full."""

    def embed(self) -> list[Embedded]:
        """Make one step for texts, and return the requests that are complete with it."""

    def has_texts(self) -> bool:
        """True while texts wait for their vectors."""

    def warm_up(self) -> float:
        """Touch every weight; return the seconds of a step of one token."""

    def stats(self) -> Mapping[str, float]:
        """Return what it is doing and has done."""

    def close(self) -> None:
        """End what it does beside its steps."""


class LineClosed(Exception):
    """The other end of a line is gone: the loop ends."""


class Line(Protocol):
    """A line to whoever asks."""

    def receive(self, timeout_s: float) -> list[Command]:
        """Return what has come, waiting up to `timeout_s` for the first. Raises LineClosed."""

    def send(self, report: Report) -> None:
        """Send one report. Raises LineClosed."""


class EngineLoop:
    """An engine and the line that it serves."""

    def __init__(self, engine: Steppable, line: Line) -> None:
        self._engine = engine
        self._line = line
        self._returning: deque[GenerateRequest] = (
            deque()
        )  # admitted before, by an engine that died: they wait, and are never refused
        self._preparing: list[tuple[Submit, Future[None]]] = []
        self._steps = 0

    def run(self) -> None:
        """Serve until the line closes."""
        try:
            while True:
                self._turn()
        except LineClosed:
            self._engine.close()

    def _turn(self) -> None:
        for command in self._line.receive(self._patience_s()):
            self._obey(command)
        self._take_adapted()
        self._take_prepared()
        self._readmit()
        has_work, has_texts = self._engine.has_work(), self._engine.has_texts()
        if has_work:
            self._step()
        if has_texts:
            self._embed()
        if not (has_work or has_texts or self._preparing):
            self._line.send(Idle(self._steps, dict(self._engine.stats())))

    def _patience_s(self) -> float:
        if self._engine.has_work() or self._engine.has_texts():
            return 0.0
        if self._preparing:
            return PREPARING_LOOK_S
        return ADAPTING_LOOK_S if self._engine.is_adapting() else IDLE_REPORT_S

    def _obey(self, command: Command) -> None:
        if isinstance(command, Submit):
            self._prepare(command)
        elif isinstance(command, Embed):
            self._submit_texts(command.request)
        elif isinstance(command, Abort):
            self._abort(command)
        elif isinstance(command, Learn):
            self._engine.learn(command.vocabulary)
        elif isinstance(command, Adapt):
            self._adapt(command)
        elif isinstance(command, ForgetAdapter):
            self._engine.forget_adapter(command.key)

    def _adapt(self, command: Adapt) -> None:
        try:
            self._engine.adapt(command.key, command.path)
        except CamelidError as error:
            self._line.send(Adapted(command.key, Failure.of(error)))

    def _take_adapted(self) -> None:
        for key, error in self._engine.adapted():
            self._line.send(Adapted(key, None if error is None else Failure.of(error)))

    def _prepare(self, command: Submit) -> None:
        """Let a request in, now or, if something has to be made ready for it, when that is done."""
        waits_for = self._engine.prepare(command.request)
        if waits_for is None or (waits_for.done() and waits_for.exception() is None):
            self._let_in(command)
        else:
            self._preparing.append((command, waits_for))

    def _take_prepared(self) -> None:
        for command, waits_for in [pair for pair in self._preparing if pair[1].done()]:
            self._preparing.remove((command, waits_for))
            error = waits_for.exception()
            if isinstance(error, CamelidError):
                self._line.send(Failed(command.request.id, Failure.of(error)))
            elif error is not None:
                raise error
            else:
                self._prepare(command)  # there may be something else to wait for

    def _let_in(self, command: Submit) -> None:
        if command.was_admitted:
            self._returning.append(command.request)
        else:
            self._submit(command.request)

    def _abort(self, command: Abort) -> None:
        if command.choice is None:
            self._returning = deque(request for request in self._returning if request.id != command.request_id)
            self._preparing = [pair for pair in self._preparing if pair[0].request.id != command.request_id]
        self._engine.abort(command.request_id, command.choice)

    def _submit(self, request: GenerateRequest) -> None:
        try:
            self._engine.submit(request)
        except CamelidError as error:
            self._line.send(Failed(request.id, Failure.of(error)))
        else:
            self._line.send(Accepted(request.id))

    def _submit_texts(self, request: EmbedRequest) -> None:
        try:
            self._engine.submit_texts(request)
        except CamelidError as error:
            self._line.send(Failed(request.id, Failure.of(error)))

    def _readmit(self) -> None:
        while self._returning:
            try:
                self._engine.submit(self._returning[0])
            except Overloaded:
                return  # there is work then, and a later turn finds room
            except CamelidError as error:
                self._line.send(Failed(self._returning[0].id, Failure.of(error)))
            self._returning.popleft()

    def _step(self) -> None:
        start = time.monotonic()
        tokens: list[Token] = []
        try:
            tokens = self._engine.step()
        except RequestsFailed as error:
            for request_id in error.request_ids:
                self._line.send(Failed(request_id, Failure.of(error)))
        self._steps += 1
        self._line.send(Stepped(self._steps, time.monotonic() - start, tokens, dict(self._engine.stats())))

    def _embed(self) -> None:
        start = time.monotonic()
        complete: list[Embedded] = []
        try:
            complete = self._engine.embed()
        except RequestsFailed as error:
            for request_id in error.request_ids:
                self._line.send(Failed(request_id, Failure.of(error)))
        self._steps += 1
        self._line.send(Read(self._steps, time.monotonic() - start, complete, dict(self._engine.stats())))
