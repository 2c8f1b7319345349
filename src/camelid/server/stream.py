"""Answers that leave piece by piece, and the care around them: beats, clients that leave, errors in the middle.

A dialect brings an encoder (events in, bytes out); everything that has to do with time and the connection is here. How
long a reader may be slow is the connection's business (`connection.py`): it stops taking bytes, `send` waits, no more
events are taken from the runtime.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, Protocol, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from camelid.errors import CamelidError, Cancelled
from camelid.types import Event

from .errors import Problem, internal_problem, problem_of
from .lifecycle import Lifecycle
from .limits import Limits
from .short_way import ShortWay, short_way

Result = TypeVar("Result")


class Encoder(Protocol):
    """A dialect's way to write a stream."""

    media_type: str
    beat: bytes  # what to send when there is nothing to say

    def feed(self, event: Event) -> bytes:
        """Return the bytes that `event` makes; empty for some."""

    def finish(self) -> bytes:
        """Return what comes after the last event."""

    def fail(self, problem: Problem) -> bytes | None:
        """Return what ends a stream that has gone wrong; None where it is only to be broken off."""


class Reply(Protocol):
    """A dialect's way to write an answer that is sent whole."""

    def feed(self, event: Event) -> object:
        """Take one event."""

    def body(self) -> bytes:
        """Return the answer, once all events are in."""


async def whole(
    request: Request,
    events: AsyncGenerator[Event, None],
    reply: Reply,
    lifecycle: Lifecycle,
    media_type: str = "application/json",
) -> Response:
    """Gather all events and return the answer at once. Raises what the events raise, and Cancelled."""

    async def gather() -> bytes:
        async with aclosing(events):
            async for event in events:
                reply.feed(event)
        return reply.body()

    with lifecycle.request() as ended:
        body = await while_connected(gather(), request.receive, ended)
    return Response(body, media_type=media_type)


async def while_connected(work: Coroutine[Any, Any, Result], receive: Receive, ended: asyncio.Future[None]) -> Result:
    """Run `work` to its end, unless the client leaves (raises Cancelled) or `ended` fails (raises that)."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_client_gone(receive))
    watched: list[asyncio.Future[Any]] = [task, gone, ended]
    try:
        await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
        task.cancel()  # does nothing to a task that is done
        await asyncio.wait({task, gone})
    if not task.cancelled():
        return task.result()
    if ended.done():
        ended.result()
    raise Cancelled("the client left")


async def _client_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """The response that a stream of events becomes.

    The first event, or the first beat, sends the headers. What goes wrong before is raised, and answered with a status
    as usual; what goes wrong after is written into the stream in the dialect's way.
    """

    def __init__(
        self, events: AsyncGenerator[Event, None], encoder: Encoder, lifecycle: Lifecycle, limits: Limits
    ) -> None:
        super().__init__(
            media_type=encoder.media_type,
            headers={"cache-control": "no-cache", "x-accel-buffering": "no"},  # the second tells nginx not to collect
        )
        del self.headers["content-length"]
        self._events, self._encoder, self._lifecycle, self._limits = events, encoder, lifecycle, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write the stream (the entry that ASGI wants)."""
        out = _Out(send, self, self._limits, short_way(scope))
        beats = asyncio.ensure_future(out.keep_beating(self._encoder.beat))
        try:
            with self._lifecycle.request() as ended:
                await while_connected(self._pump(out), receive, ended)
        except Cancelled:
            if not out.is_started:
                raise
        except CamelidError as error:
            if not out.is_started:
                raise
            await out.break_off(self._encoder.fail(problem_of(error)))
        except Exception:
            if out.is_started:
                await out.break_off(self._encoder.fail(internal_problem()))
            raise
        finally:
            beats.cancel()

    async def _pump(self, out: _Out) -> None:
        async with aclosing(self._events) as events:
            async for event in events:
                data = self._encoder.feed(event)
                if data and not out.write_now(data):
                    await out.write(data)
        await out.end(self._encoder.finish())


class _Out:
    """The sending side of one stream.

    The lock keeps a beat from getting between a message and its wait for a slow reader.
    """

    def __init__(self, send: Send, response: Response, limits: Limits, short_way: ShortWay) -> None:
        self.is_started = self.is_ended = False
        self._send, self._response, self._limits, self._short_way = send, response, limits, short_way
        self._clock_s = asyncio.get_running_loop().time
        self._sent_at = 0.0
        self._lock = asyncio.Lock()

    def write_now(self, data: bytes) -> bool:
        """Send `data` the short way if that is open; False if not: then it has to be written as usual."""
        if not self.is_started or self.is_ended or self._lock.locked() or not self._short_way(data):
            return False
        self._sent_at = self._clock_s()
        return True

    async def write(self, data: bytes, *, is_last: bool = False) -> None:
        """Send `data`, and the headers before if they are not out yet."""
        if not data and not is_last:
            return
        async with self._lock:
            if self.is_ended:
                return
            self.is_ended = is_last
            if not self.is_started:
                self.is_started = True
                await self._send(
                    {
                        "type": "http.response.start",
                        "status": self._response.status_code,
                        "headers": self._response.raw_headers,
                    }
                )
            self._sent_at = self._clock_s()
            await self._send({"type": "http.response.body", "body": data, "more_body": not is_last})

    async def end(self, data: bytes) -> None:
        """Send `data` and end the response."""
        await self.write(data, is_last=True)

    async def break_off(self, data: bytes | None) -> None:
        """Send `data` and end the response. Without any leave it unended: the connection is then cut, which a client
        cannot take for an end.
        """
        if data is None:
            self.is_ended = True
        else:
            await self.end(data)

    async def keep_beating(self, beat: bytes) -> None:
        """Send `beat` when nothing has been sent for too long."""
        await asyncio.sleep(self._limits.first_beat_s)
        while True:
            if not self.is_started or self._clock_s() >= self._sent_at + self._limits.beat_s:
                await self.write(beat)
            await asyncio.sleep(max(0.0, self._sent_at + self._limits.beat_s - self._clock_s()))
