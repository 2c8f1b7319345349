"""The owner of an engine process: starts it, watches it, and when it dies starts another that goes on where it stopped.

Callers notice a pause and nothing else: the journal has every open request with its ids so far, and sampling is keyed
by position. There are two ends to that patience. A request that the engine died on three times without a token in
between, and that was alone with it, is failed alone. Engines that die `max_deaths` times without a single token in
between end all open requests; it is tried again later.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import structs

from camelid.engine.request import EmbedRequest, GenerateRequest, Token
from camelid.errors import CamelidError, ProtocolError, RequestsFailed, Unavailable
from camelid.grammar.vocabulary import Vocabulary

from .engine_port import EngineHealth, Streams
from .engine_process import WORKER, EngineProcess
from .frames import (
    Abort,
    Adapt,
    Command,
    Embed,
    Failed,
    ForgetAdapter,
    Idle,
    Learn,
    Load,
    Loading,
    Logged,
    Read,
    Ready,
    Report,
    Stepped,
    Submit,
)
from .journal import Entry
from .watchdog import Patience, StepClock

SUSPECT_DEATHS = 2  # deaths without a token in between after which a request is tried alone
FATAL_DEATHS = 3
FATAL_LONE_DEATHS = 2  # of them, alone in the engine: then it was this request, and not a chance that struck it

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Endurance:
    """How long it is tried. `max_deaths` counts engines that died in a row without a token from any of them."""

    patience: Patience = field(default_factory=Patience)
    look_s: float = 0.5  # the watchdog's pace
    max_deaths: int = 8
    first_pause_s: float = 0.1  # before the second restart in a row, doubled for each further one; the first is at once
    longest_pause_s: float = 5.0
    rest_s: float = 10.0  # after the engine was given up: requests are refused, the next one after that tries again
    longest_rest_s: float = 60.0  # and so does the supervisor itself, since nobody asks a server that is not ready


class SupervisedEngine:
    """An `EnginePort` over an engine process that is replaced when it dies. All methods belong to one asyncio loop."""

    def __init__(
        self,
        load: Load,
        *,
        endurance: Endurance = Endurance(),
        command: Sequence[str] = WORKER,
        say: Callable[[str], None] = lambda stage: None,
    ) -> None:
        settings = load.settings
        self._load = load
        self._endurance = endurance
        self._command = command
        self._say = say
        self._streams = Streams(self._obey, settings.max_sequences + settings.max_waiting, load.choosable)
        self._in_engine: set[str] = set()
        self._is_on_trial = False  # there is a suspect, or was one at the last look
        self._process: EngineProcess | None = None
        self._clock: StepClock | None = None  # set while the engine runs
        self._deaths = 0  # in a row
        self._restarts = 0
        self._given_up_at: float | None = None
        self._vocabulary: Vocabulary | None = None
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.backend = ""

    async def start(self) -> None:
        """Start the first engine and load the model. Raises what loading raises (FormatError, OutOfMemory, …), and
        Unavailable.
        """
        process = await self._start_process()
        self._task = asyncio.create_task(self._keep_running(process), name="engine supervisor")

    @property
    def has_learned(self) -> bool:
        """True once it has the vocabulary (see `EnginePort`)."""
        return self._vocabulary is not None

    def learn(self, vocabulary: Vocabulary) -> None:
        """Tell the engine, and every one that follows it, the vocabulary (see `EnginePort`)."""
        if self._vocabulary is None:
            self._vocabulary = vocabulary
            if self._clock is not None and self._process is not None:
                self._process.send(Learn(vocabulary))

    def generate(self, request: GenerateRequest) -> AsyncGenerator[list[Token], None]:
        """Yield the tokens of a request (see `EnginePort`), over as many engines as it takes."""
        return self._streams.generate(request)

    async def embed(self, request: EmbedRequest) -> tuple[bytes, ...]:
        """Return the vectors of a request's texts (see `EnginePort`)."""
        return await self._streams.texts.embed(request)

    async def adapt(self, adapt: Adapt) -> None:
        """Have this engine, and every one that follows it, take an adapter in (see `EnginePort`)."""
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

    @property
    def pid(self) -> int | None:
        """The engine process's number while there is one."""
        return self._process.pid if self._process else None

    def health(self) -> EngineHealth:
        """Say how the engine is. It is fresh until half of the time has passed after which the watchdog would kill
        it.
        """
        clock = self._clock
        is_fresh = clock is not None and clock.silence_s(time.monotonic()) < clock.limit_s / 2
        return EngineHealth(self._task is not None, is_fresh, self._streams.num_open, self._restarts)

    async def close(self) -> None:
        """End the engine process and every open request."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    # Requests in and out of the engine

    def _obey(self, command: Command) -> None:
        """Do what a stream asks for: now, or, for a request, when an engine is ready."""
        if isinstance(command, Abort):
            if command.request_id in self._in_engine:
                self._abort(command)
        elif isinstance(command, (Submit, Embed)):
            self._check_wanted()
            if not self._is_on_trial:
                self._put([command.request.id])
        elif isinstance(command, (Adapt, ForgetAdapter)):
            self._tell_adapter(command)
            return
        if self._is_on_trial:
            self._distribute()

    def _check_wanted(self) -> None:
        """See whether a new request can be served, and wake an engine that was given up."""
        if self._task is None or self._task.done():
            raise Unavailable("the engine has ended", hint="load the model again")
        if self._given_up_at is not None:
            if time.monotonic() - self._given_up_at < self._endurance.rest_s:
                raise Unavailable(
                    "the engine stopped too often", hint="see the log for its messages, and try again later"
                )
            self._wanted.set()

    def _distribute(self) -> None:
        """Put into the engine what may run now: all, or, while there are suspects, the first of them alone."""
        entries = list(self._streams.journal)
        suspects = [entry for entry in entries if entry.deaths >= SUSPECT_DEATHS]
        self._is_on_trial = bool(suspects)
        allowed = [entry.request.id for entry in suspects[:1] or entries]
        if not suspects:
            allowed += [request.id for request in self._streams.texts.requests]
        self._withdraw(self._in_engine.difference(allowed))
        self._put(allowed)

    def _put(self, request_ids: Iterable[str]) -> None:
        """Put requests into the engine, if there is one and they are not in it."""
        if self._clock is None or self._process is None:
            return
        if not self._in_engine:
            self._clock.signed(time.monotonic())  # nothing was expected of it until now
        for request_id in request_ids:
            if request_id not in self._in_engine:
                self._in_engine.add(request_id)
                self._process.send(self._streams.command_of(request_id))

    def _abort(self, command: Abort) -> None:
        if self._process is not None:
            self._process.send(command)
        if not self._is_open(command.request_id):
            self._in_engine.discard(command.request_id)

    def _is_open(self, request_id: str) -> bool:
        return self._streams.journal.get(request_id) is not None or request_id in self._streams.texts

    def _withdraw(self, request_ids: Iterable[str]) -> None:
        for request_id in list(request_ids):
            self._in_engine.discard(request_id)
            if self._process is not None:
                self._process.send(Abort(request_id))

    # The life of engines

    async def _keep_running(self, process: EngineProcess) -> None:
        """Listen to one engine after the other."""
        try:
            while True:
                await self._listen(process)
                self._blame(await process.end())
                process = await self._replace()
        finally:
            await self._stop(process)
            self._streams.fail_all(Unavailable("the engine has ended"))

    async def _listen(self, process: EngineProcess) -> None:
        """Take reports until the engine is dead, by itself or by the watchdog."""
        watchdog = asyncio.create_task(self._watch(process), name="engine watchdog")
        try:
            if self._vocabulary is not None:
                process.send(Learn(self._vocabulary))
            self._tell_adapters(process)
            self._distribute()  # whoever is suspected now is found out here
            async for report in process.reports():
                self._take(report)
        except ProtocolError as error:
            _log.error("the engine process is stopped: %s", error)
            process.kill()
        finally:
            watchdog.cancel()
            self._clock = None

    def _tell_adapter(self, command: Adapt | ForgetAdapter) -> None:
        """Tell the engine; where there is none now, the next is given what is known by then."""
        if isinstance(command, Adapt):
            self._check_wanted()
        if self._clock is not None and self._process is not None:
            self._process.send(command)

    def _tell_adapters(self, process: EngineProcess) -> None:
        """Give an engine what it does not know yet: the first was loaded with all that there was then."""
        loaded = {adapt.key for adapt in self._load.choosable} if self._restarts == 0 else set()
        for adapt in self._streams.adapters.all:
            if adapt.key not in loaded:
                process.send(adapt)

    def _take(self, report: Report) -> None:
        now = time.monotonic()
        self._streams.take(report)
        self._in_engine.difference_update(one for one in _ended(report) if not self._is_open(one))
        assert self._clock is not None  # set while reports are taken
        if isinstance(report, (Stepped, Read)):
            self._clock.stepped(report.seconds, now)
            if report.tokens if isinstance(report, Stepped) else report.complete:
                self._deaths = 0
        elif isinstance(report, Logged):
            logging.getLogger(report.logger).log(report.level, "%s", report.message)
        elif not (isinstance(report, Idle) and self._in_engine):  # idle with work in hand is no sign of life
            self._clock.signed(now)
        if self._is_on_trial:
            self._distribute()

    async def _watch(self, process: EngineProcess) -> None:
        """Kill an engine that is silent for too long; the listener then sees it dead."""
        pace_s = self._endurance.look_s
        while True:
            await asyncio.sleep(pace_s)
            clock = self._clock
            if clock is not None and clock.is_silent_too_long(time.monotonic(), pace_s, process.waited_s()):
                _log.error("the engine made no step for %.1f s and is stopped", clock.silence_s(time.monotonic()))
                await process.dump_stacks_and_kill()

    def _blame(self, how: str) -> None:
        """Note a death, and fail the request that was alone with it once too often."""
        self._deaths += 1
        self._restarts += 1
        running = self._running()
        _log.error("the engine process %s with %d requests in it", how, len(self._in_engine))
        self._streams.texts.blame(self._in_engine)
        self._in_engine.clear()
        for entry in running:
            entry.deaths += 1
            entry.lone_deaths = entry.lone_deaths + 1 if len(running) == 1 else 0
        if running and running[0].deaths >= FATAL_DEATHS and running[0].lone_deaths >= FATAL_LONE_DEATHS:
            self._fail_fatal(running[0])

    def _running(self) -> list[Entry]:
        """Return the requests that the engine may have worked on: it starts them in order, the others only waited."""
        places = self._load.settings.max_sequences
        running: list[Entry] = []
        for entry in self._streams.journal:
            if entry.request.id in self._in_engine and places > 0:
                running.append(entry)
                places -= entry.request.num_choices
        return running

    def _fail_fatal(self, entry: Entry) -> None:
        reason = f"the engine stopped {entry.deaths} times while it worked on it"
        self._streams.fail([entry.request.id], RequestsFailed((entry.request.id,), reason))

    async def _replace(self) -> EngineProcess:
        """Start another engine, as often as it takes and is worth it."""
        await self._pause()
        while True:
            try:
                return await self._start_process()
            except Unavailable as error:  # the process died
                _log.error("the engine cannot be started again: %s", error)
                self._deaths += 1
                await self._pause()
            except CamelidError as error:  # it said what is wrong, and that will be wrong the next time too
                _log.error("the engine cannot be started again: %s", error)
                await self._rest(error)

    async def _pause(self) -> None:
        """Wait before a restart: not at all after the first death, and after too many until somebody asks again."""
        endurance = self._endurance
        if self._deaths >= endurance.max_deaths:
            stopped = f"the engine stopped {self._deaths} times in a row"
            await self._rest(Unavailable(stopped, hint="see the log for its messages"))
        elif self._deaths > 1:
            await asyncio.sleep(min(endurance.first_pause_s * 2 ** (self._deaths - 2), endurance.longest_pause_s))

    async def _rest(self, error: CamelidError) -> None:
        """Give up: end all open requests with `error`, and wait until it is worth trying again."""
        self._given_up_at = time.monotonic()
        self._streams.fail_all(error)
        self._wanted.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wanted.wait(), self._endurance.longest_rest_s)
        self._given_up_at, self._deaths = None, self._endurance.max_deaths - 1

    async def _start_process(self) -> EngineProcess:
        process = self._process = await EngineProcess.start(self._command)
        try:
            load = structs.replace(self._load, choosable=() if self._restarts else self._load.choosable)
            async for report in process.load(load):
                self._take_loading(report)
        except BaseException:  # also when cancelled: no process without an owner
            await self._stop(process)
            raise
        return process

    def _take_loading(self, report: Loading | Logged | Ready) -> None:
        if isinstance(report, Loading):
            self._say(report.stage)
        elif isinstance(report, Logged):
            logging.getLogger(report.logger).log(report.level, "%s", report.message)
        else:
            self.backend = report.backend
            self._clock = StepClock(
                self._endurance.patience, report.step_seconds, self._load.settings.prefill_chunk, time.monotonic()
            )

    async def _stop(self, process: EngineProcess) -> None:
        """End a process for good."""
        self._process = self._clock = None
        await process.end()


def _ended(report: Report) -> Iterable[str]:
    """Return the requests that a report may have ended."""
    if isinstance(report, Stepped):
        return (token.request_id for token in report.tokens if token.finish is not None)
    if isinstance(report, Read):
        return (found.request_id for found in report.complete)
    return (report.request_id,) if isinstance(report, Failed) else ()
