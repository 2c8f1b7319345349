"""Streams at the level of ASGI messages: beats, clients that leave, errors in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from fake_runtime import FakeRuntime, Step, hello

from camelid.errors import Overloaded, Unavailable
from camelid.server.errors import Problem
from camelid.server.lifecycle import Lifecycle
from camelid.server.limits import Limits
from camelid.server.stream import EventStream, while_connected
from camelid.types import ChatRequest, Event, Started, Text

ASK = ChatRequest("tiny", ())
AT_ONCE = Limits(first_beat_s=0.0, beat_s=3600.0)
NEVER = Limits(first_beat_s=3600.0)


class Words:
    """An encoder that writes an event's name."""

    media_type = "text/event-stream"
    beat = b"~"

    def feed(self, event: Event) -> bytes:
        return f"<{type(event).__name__}>".encode()

    def finish(self) -> bytes:
        return b"<end>"

    def fail(self, problem: Problem) -> bytes:
        return f"<error {problem.status} {problem.code}>".encode()


class Client:
    """The other end of ASGI: what was received, and a way to leave."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.left = asyncio.Event()
        self.got = asyncio.Event()
        self.may_take = asyncio.Event()
        self.may_take.set()

    async def receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        await self.may_take.wait()
        self.messages.append(message)
        self.got.set()

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)


class Scene:
    """A stream of `script` to one client."""

    def __init__(self, script: list[Step], limits: Limits = NEVER) -> None:
        self.runtime = FakeRuntime(script=script)
        self.lifecycle = Lifecycle()
        self.lifecycle.is_started = True
        self.client = Client()
        self.stream = EventStream(self.runtime.chat(ASK), Words(), self.lifecycle, limits)

    async def play(self) -> None:
        await self.stream({"type": "http"}, self.client.receive, self.client.send)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(10):
            await scenario()

    asyncio.run(bounded())


def test_events_are_written_and_the_last_message_ends_the_response() -> None:
    async def scenario() -> None:
        scene = Scene(hello())
        await scene.play()
        assert scene.client.messages[0]["status"] == 200
        assert (b"content-type", b"text/event-stream; charset=utf-8") in scene.client.messages[0]["headers"]
        assert scene.client.body == b"<Started><Text><Text><Finished><end>"
        assert [message.get("more_body") for message in scene.client.messages] == [None, True, True, True, True, False]

    run(scenario)


def test_before_the_first_event_a_beat_sends_the_headers() -> None:
    async def scenario() -> None:
        admitted = asyncio.Event()
        scene = Scene([admitted, *hello()], AT_ONCE)
        playing = asyncio.create_task(scene.play())
        await scene.client.got.wait()
        assert scene.client.messages[0]["type"] == "http.response.start"
        admitted.set()
        await playing
        assert scene.client.body == b"~<Started><Text><Text><Finished><end>"

    run(scenario)


def test_silence_is_filled_with_beats() -> None:
    async def scenario() -> None:
        enough = asyncio.Event()
        scene = Scene([Started(1), enough, Text("a")], Limits(first_beat_s=0.001, beat_s=0.001))
        playing = asyncio.create_task(scene.play())
        while scene.client.body.count(b"~") < 3:
            await asyncio.sleep(0)
        enough.set()
        await playing
        assert scene.client.body.replace(b"~", b"") == b"<Started><Text><end>"

    run(scenario)


def test_a_client_that_leaves_ends_the_request_at_once() -> None:
    async def scenario() -> None:
        scene = Scene([Started(1), asyncio.Event()])
        playing = asyncio.create_task(scene.play())
        await scene.client.got.wait()
        scene.client.left.set()
        await playing
        assert (scene.runtime.num_open, scene.runtime.num_closed_early, scene.lifecycle.num_running) == (0, 1, 0)

    run(scenario)


def test_a_client_that_leaves_before_admission_ends_the_request_too() -> None:
    async def scenario() -> None:
        scene = Scene([asyncio.Event()])
        playing = asyncio.create_task(scene.play())
        await scene.runtime.opened.wait()
        scene.client.left.set()
        with pytest.raises(Exception, match="the client left"):
            await playing
        assert scene.runtime.num_closed_early == 1

    run(scenario)


def test_a_client_that_does_not_read_stops_the_events_until_it_leaves() -> None:
    async def scenario() -> None:
        scene = Scene([Started(1), Text("a"), Text("b")])
        scene.client.may_take.clear()
        playing = asyncio.create_task(scene.play())
        await scene.runtime.opened.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        assert scene.runtime.num_open == 1  # waiting with the first event in hand
        scene.client.left.set()
        await playing
        assert (scene.client.messages, scene.runtime.num_closed_early) == ([], 1)

    run(scenario)


def test_an_error_before_the_headers_is_raised() -> None:
    async def scenario() -> None:
        scene = Scene([Overloaded("full", retry_after_s=1)])
        with pytest.raises(Overloaded):
            await scene.play()
        assert scene.client.messages == []

    run(scenario)


def test_an_error_after_the_headers_is_written_into_the_stream() -> None:
    async def scenario() -> None:
        scene = Scene([Started(1), Text("a"), Unavailable("the engine is gone")])
        await scene.play()
        assert scene.client.body == b"<Started><Text><error 503 unavailable>"
        assert scene.client.messages[-1]["more_body"] is False

    run(scenario)


def test_an_error_after_a_beat_is_written_into_the_stream() -> None:
    async def scenario() -> None:
        admitted = asyncio.Event()
        scene = Scene([admitted, Overloaded("full", retry_after_s=1)], AT_ONCE)
        playing = asyncio.create_task(scene.play())
        await scene.client.got.wait()
        admitted.set()
        await playing
        assert scene.client.body == b"~<error 503 server_overloaded>"

    run(scenario)


def test_a_bug_ends_the_stream_in_order_and_is_raised_for_the_log() -> None:
    async def scenario() -> None:
        scene = Scene([Started(1), ZeroDivisionError("secret")])
        with pytest.raises(ZeroDivisionError):
            await scene.play()
        assert scene.client.body == b"<Started><error 500 internal_error>"

    run(scenario)


def test_an_answer_that_is_cut_by_the_shutdown_says_so() -> None:
    async def scenario() -> None:
        scene = Scene([Started(1), asyncio.Event()])
        playing = asyncio.create_task(scene.play())
        await scene.client.got.wait()
        assert scene.lifecycle.cut() == 1
        await playing
        assert scene.client.body == b"<Started><error 503 unavailable>"
        assert scene.runtime.num_closed_early == 1

    run(scenario)


def test_no_new_stream_begins_while_the_server_refuses() -> None:
    async def scenario() -> None:
        scene = Scene(hello())
        scene.lifecycle.is_refusing = True
        with pytest.raises(Unavailable, match="shutting down"):
            await scene.play()
        assert scene.runtime.num_open == 0

    run(scenario)


def test_work_that_is_abandoned_has_ended_before_anything_else_happens() -> None:
    async def scenario() -> None:
        ended = asyncio.get_running_loop().create_future()
        client = Client()
        traces: list[str] = []

        async def work() -> None:
            try:
                client.left.set()
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                traces.append("ended")

        with pytest.raises(Exception, match="the client left"):
            await while_connected(work(), client.receive, ended)
        assert traces == ["ended"]

    run(scenario)
