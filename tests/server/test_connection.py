"""Connections at the level of bytes: deadlines, bounds, framing, clients that hang up."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from fake_runtime import FakeRuntime, Step, hello
from live import Live, live

from camelid.server.limits import Limits
from camelid.types import Started, Text

QUICK = Limits(linger_s=0.2, cut_s=0.1)
BODY = b'{"messages":[{"role":"user","content":"hi"}]}'
STREAM = b'{"stream":true,"messages":[{"role":"user","content":"hi"}]}'


def post(body: bytes = BODY, *headers: bytes) -> bytes:
    lines = [
        b"POST /v1/chat/completions HTTP/1.1",
        b"Host: localhost",
        b"Content-Type: application/json",
        b"Content-Length: %d" % len(body),
        *headers,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


class Wire:
    """A client's end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        return await self.reader.read(-1)

    async def response(self) -> tuple[int, dict[str, str], bytes]:
        """One response with a length."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        status, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return int(status.split()[1]), headers, body


@asynccontextmanager
async def wire(server: Live) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await scenario()

    asyncio.run(bounded())


async def exchange(data: bytes, limits: Limits = QUICK, script: list[Step] | None = None) -> list[tuple[int, Any]]:
    """Send `data` and return the status and the JSON of every response, until the server closes."""
    answers = []
    async with live(FakeRuntime(script=script), limits=limits) as server, wire(server) as client:
        await client.send(data)
        everything = Wire(asyncio.StreamReader(), client.writer)
        everything.reader.feed_data(await client.rest())
        everything.reader.feed_eof()
        while not everything.reader.at_eof():
            status, _, body = await everything.response()
            answers.append((status, json.loads(body)))
    return answers


def refusal(data: bytes, limits: Limits = QUICK) -> tuple[int, str]:
    """The status and code of the only response, behind which the server closes."""
    [(status, body)] = asyncio.run(asyncio.wait_for(exchange(data, limits), 20))
    assert list(body) == ["error"]
    return status, body["error"]["code"]


# deadlines


def test_a_connection_that_says_nothing_is_closed() -> None:
    async def scenario() -> None:
        async with live(FakeRuntime(), limits=replace(QUICK, silent_s=0.05)) as server, wire(server) as client:
            assert await client.rest() == b""

    run(scenario)


@pytest.mark.parametrize("begin", [b"P", b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n", b"\r\n"])
def test_headers_must_come_in_time(begin: bytes) -> None:
    assert refusal(begin, replace(QUICK, header_s=0.05)) == (408, "request_timeout")


def test_dripping_headers_do_not_win_time() -> None:
    async def scenario() -> None:
        async with live(FakeRuntime(), limits=replace(QUICK, header_s=0.1)) as server, wire(server) as client:
            await client.send(b"GET / HTTP/1.1\r\n")

            async def drip() -> None:
                while True:
                    await client.send(b"A: b\r\n")
                    await asyncio.sleep(0.02)

            dripping = asyncio.create_task(drip())
            assert (await client.response())[0] == 408
            dripping.cancel()

    run(scenario)


def test_the_body_must_come_in_time() -> None:
    limits = replace(QUICK, body_s=0.05, body_s_per_mib=0.0)
    assert refusal(post(b"{" * 100)[:-50], limits) == (408, "request_timeout")


def test_a_larger_body_may_take_longer() -> None:
    async def scenario() -> None:
        limits = replace(QUICK, body_s=0.05, body_s_per_mib=3600.0)
        async with live(FakeRuntime(), limits=limits) as server, wire(server) as client:
            padded = BODY[:-1] + b" " * 100_000 + b"}"
            await client.send(post(padded)[:-1])
            await asyncio.sleep(0.1)
            await client.send(padded[-1:])
            assert (await client.response())[0] == 200

    run(scenario)


def test_an_idle_connection_is_kept_for_the_next_request_and_then_closed() -> None:
    async def scenario() -> None:
        async with live(FakeRuntime(), limits=replace(QUICK, header_s=0.05)) as server:
            server.server.config.timeout_keep_alive = 0.2  # type: ignore[assignment] # uvicorn's is whole seconds
            async with wire(server) as client:
                for _ in range(3):
                    await client.send(post())
                    assert (await client.response())[0] == 200
                assert await client.rest() == b""

    run(scenario)


def test_an_answer_that_takes_long_has_no_deadline() -> None:
    async def scenario() -> None:
        done = asyncio.Event()
        limits = replace(QUICK, silent_s=0.01, header_s=0.01, body_s=0.01, first_beat_s=3600)
        async with live(FakeRuntime(script=[done, *hello()]), limits=limits) as server, wire(server) as client:
            await client.send(post())
            await asyncio.sleep(0.1)
            done.set()
            assert (await client.response())[0] == 200

    run(scenario)


def test_a_reader_that_is_stuck_is_cut_and_its_request_ended() -> None:
    async def scenario() -> None:
        endless: list[Step] = [Started(1), *[Text("x" * 10_000)] * 10_000]
        runtime = FakeRuntime(script=endless)
        limits = replace(QUICK, stalled_s=0.1, write_buffer_bytes=64 * 1024)
        async with live(runtime, limits=limits) as server:
            stuck = socket.create_connection(("127.0.0.1", server.port))
            stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
            try:
                stuck.sendall(post(STREAM))
                await runtime.closed.wait()
                assert (runtime.num_open, runtime.num_closed_early) == (0, 1)
            finally:
                stuck.close()

    run(scenario)


# clients that leave


@pytest.mark.parametrize("body", [BODY, STREAM])
def test_a_client_that_hangs_up_frees_its_request(body: bytes) -> None:
    async def scenario() -> None:
        runtime = FakeRuntime(script=[Started(1), asyncio.Event()])
        async with live(runtime, limits=QUICK) as server:
            async with wire(server) as client:
                await client.send(post(body))
                await runtime.opened.wait()
            await runtime.closed.wait()
            assert (runtime.num_open, runtime.num_closed_early) == (0, 1)
            while server.lifecycle.num_running:
                await asyncio.sleep(0)

    run(scenario)


# bounds


def test_a_body_that_announces_too_much_is_refused_unread() -> None:
    async def scenario() -> None:
        async with live(FakeRuntime(), limits=QUICK) as server, wire(server) as client:
            await client.send(post(b"{" * 10_000_000)[:5000])
            status, headers, body = await client.response()
            assert (status, headers["connection"]) == (413, "close")
            assert json.loads(body)["error"]["message"] == "the body must have at most 4194304 bytes"

    run(scenario)


def test_ten_megabytes_that_are_sent_anyway_get_the_answer_too() -> None:
    async def scenario() -> None:
        async with live(FakeRuntime(), limits=QUICK) as server, wire(server) as client:
            sending = asyncio.create_task(client.send(post(b" " * 10_000_000)))
            assert (await client.response())[0] == 413
            await asyncio.wait([sending])
            if not sending.cancelled():
                sending.exception()  # cut or not, as it may be

    run(scenario)


def test_a_body_without_a_length_is_refused_when_it_is_too_large() -> None:
    head = post(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    assert refusal(head + chunk * 65) == (413, "request_too_large")


def test_a_chunked_body_is_read() -> None:
    head = post(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked\r\nConnection: close")
    data = head + b"5\r\n" + BODY[:5] + b"\r\n%x\r\n" % len(BODY[5:]) + BODY[5:] + b"\r\n0\r\n\r\n"
    [(status, _)] = asyncio.run(asyncio.wait_for(exchange(data), 20))
    assert status == 200


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", (414, "request_line_too_long")),
        (b"GET /" + b"a" * 30000, (414, "request_line_too_long")),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nA: " + b"a" * 17000, (431, "request_headers_too_large")),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nA: " + b"a" * 17000 + b"\r\n\r\n", (431, "request_headers_too_large")),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 100 + b"\r\n", (431, "request_headers_too_large")),
    ],
)
def test_a_head_beyond_the_bounds_is_refused(data: bytes, answer: tuple[int, str]) -> None:
    assert refusal(data) == answer


def test_more_connections_than_the_limit_are_turned_away() -> None:
    async def scenario() -> None:
        probe = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
        limits = replace(QUICK, max_connections=1)
        async with live(FakeRuntime(), limits=limits) as server, wire(server) as first:
            await first.send(probe)
            assert (await first.response())[0] == 200
            async with wire(server) as second:
                assert (await second.response())[0] == 503
                assert await second.rest() == b""
            await first.send(probe)
            assert (await first.response())[0] == 200

    run(scenario)


# framing


HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    "data",
    [
        HEAD + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        HEAD + b"Content-Length: 3, 3\r\n\r\nabc",
        HEAD + b"Content-Length: +3\r\n\r\nabc",
        HEAD + b"Content-Length: 0x3\r\n\r\nabc",
        HEAD + b"Content-Length: -3\r\n\r\nabc",
        HEAD + b"Content-Length: 99999999999999999999\r\n\r\n",
        HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nAuthorization: Bearer stolen\r\n\r\n",
        HEAD.replace(b"HTTP/1.1", b"HTTP/1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Host: other\r\nContent-Length: 0\r\n\r\n",
        HEAD + b"Content-Type: text/plain\r\nContent-Length: 0\r\n\r\n",
        HEAD + b" folded: line\r\n\r\n",
        HEAD + b"A : b\r\n\r\n",
        HEAD + b"A\x00: b\r\n\r\n",
        HEAD + b"A: b\x00\r\n\r\n",
        HEAD + b"A: b\rC: d\r\n\r\n",
        HEAD.replace(b"\r\n", b"\n") + b"\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"BREW / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_framing_that_a_proxy_might_read_differently_is_refused(data: bytes) -> None:
    assert refusal(data) == (400, "bad_request")


def test_a_second_request_sent_too_early_is_dropped_with_the_connection() -> None:
    answers = asyncio.run(asyncio.wait_for(exchange(post() + post()), 20))
    assert [status for status, _ in answers] == [200]


def test_requests_one_after_the_other_share_a_connection() -> None:
    async def scenario() -> None:
        async with live(FakeRuntime(), limits=QUICK) as server, wire(server) as client:
            for _ in range(5):
                await client.send(post())
                assert (await client.response())[0] == 200

    run(scenario)


def test_who_waits_for_the_go_ahead_gets_it() -> None:
    async def scenario() -> None:
        async with live(FakeRuntime(), limits=QUICK) as server, wire(server) as client:
            await client.send(post(BODY, b"Expect: 100-continue").removesuffix(BODY))
            assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            await client.send(BODY)
            assert (await client.response())[0] == 200

    run(scenario)
