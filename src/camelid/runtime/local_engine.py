"""An engine in a thread of this process: for the library and the console, where there is nobody to supervise it."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

from camelid.engine.request import EmbedRequest, GenerateRequest, Token
from camelid.errors import Unavailable
from camelid.grammar.vocabulary import Vocabulary

from .engine_port import EngineHealth, Streams
from .frames import Adapt, Command, Embed, Learn, Report, Submit
from .loop import IDLE_REPORT_S, EngineLoop, LineClosed, Steppable

FRESH_S = 10 * IDLE_REPORT_S  # a long prefill step may take seconds


class _QueueLine:
    """The line between the engine thread and the asyncio loop that started it."""

    def __init__(self, engine: LocalEngine, loop: asyncio.AbstractEventLoop) -> None:
        self.commands: queue.SimpleQueue[Command | None] = queue.SimpleQueue()  # None closes the line
        self._engine = engine
        self._loop = loop

    def receive(self, timeout_s: float) -> list[Command]:
        """Return all commands that have come, waiting up to `timeout_s` for the first. Raises LineClosed."""
        commands: list[Command] = []
        try:
            while True:
                command = self.commands.get(block=timeout_s > 0, timeout=timeout_s)
                if command is None:
                    raise LineClosed
                commands.append(command)
                timeout_s = 0.0
        except queue.Empty:
            return commands

    def send(self, report: Report) -> None:
        """Hand a report to the asyncio loop. Raises LineClosed when that loop is gone."""
        self._call(self._engine.take, report)

    def end(self) -> None:
        """Tell the asyncio loop that the engine thread ends. Raises LineClosed when that loop is gone."""
        self._call(self._engine.end)

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError as error:
            raise LineClosed from error


class LocalEngine:
    """An `EnginePort` over an engine in a thread. Made, used and closed in one asyncio loop."""

    def __init__(self, engine: Steppable, backend: str, max_open: int, adapters: Sequence[Adapt] = ()) -> None:
        self.backend = backend
        self._line = _QueueLine(self, asyncio.get_running_loop())
        self._streams = Streams(self._obey, max_open, adapters)
        self._has_ended = False
        self.has_learned = False
        self._last_sign = time.monotonic()
        self._thread = threading.Thread(target=self._run, args=(engine,), name="camelid engine", daemon=True)
        self._thread.start()

    def learn(self, vocabulary: Vocabulary) -> None:
        """Take the vocabulary that grammars need (see `EnginePort`)."""
        if not self.has_learned:
            self.has_learned = True
            self._line.commands.put(Learn(vocabulary))

    def generate(self, request: GenerateRequest) -> AsyncGenerator[list[Token], None]:
        """Yield the tokens of a request (see `EnginePort`)."""
        return self._streams.generate(request)

    async def embed(self, request: EmbedRequest) -> tuple[bytes, ...]:
        """Return the vectors of a request's texts (see `EnginePort`)."""
        return await self._streams.texts.embed(request)

    async def adapt(self, adapt: Adapt) -> None:
        """Take an adapter in (see `EnginePort`)."""
        await self._streams.adapters.adapt(adapt)

    def forget_adapter(self, key: str) -> None:
        """Drop an adapter (see `EnginePort`)."""
        self._streams.adapters.forget(key)

    def stop_choice(self, request_id: str, choice: int) -> None:
        """Give up one choice of a request (see `EnginePort`)."""
        self._streams.stop_choice(request_id, choice)

    def stats(self) -> Mapping[str, float]:
        """Return the engine's last numbers."""
        return self._streams.stats

    def health(self) -> EngineHealth:
        """Say how the engine is."""
        is_fresh = not self._has_ended and time.monotonic() - self._last_sign < FRESH_S
        return EngineHealth(is_started=True, is_fresh=is_fresh, num_open=self._streams.num_open)

    async def close(self) -> None:
        """Let the thread finish its step and end. Open requests end with Unavailable."""
        self._line.commands.put(None)
        await asyncio.to_thread(self._thread.join)
        self.end()

    def take(self, report: Report) -> None:
        """Take a report in: called in the asyncio loop."""
        self._last_sign = time.monotonic()
        self._streams.take(report)

    def _obey(self, command: Command) -> None:
        if self._has_ended and isinstance(command, (Submit, Embed, Adapt)):
            raise Unavailable("the engine has ended", hint="load the model again")
        self._line.commands.put(command)

    def _run(self, engine: Steppable) -> None:
        try:
            EngineLoop(engine, self._line).run()
        finally:  # also when the engine breaks: nobody must wait for it for ever
            with contextlib.suppress(LineClosed):
                self._line.end()

    def end(self) -> None:
        """End all open requests: called in the asyncio loop when the thread is done."""
        self._has_ended = True
        self._streams.fail_all(Unavailable("the engine has ended"))
