"""Streams read by hand: a client so thin that it does not slow what it measures.

It looks for the mark of a token in the bytes as they come and notes the time; nothing is parsed.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from camelid.errors import Unavailable

MARK = b'{"content":'  # begins the delta of each token; the first chunk, which has none, begins with the role
END = b"data: [DONE]"
IN_FLIGHT = "camelid_num_requests_in_flight"  # of the metrics
LOOK_S = 0.05


@dataclass
class Stream:
    """One answer as it came: when it was asked for, and when each of its tokens arrived."""

    asked_s: float = 0.0
    token_s: list[float] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    refusal: str = ""
    is_begun: bool = False

    def check(self) -> None:
        """Raise Unavailable if the server refused, or broke the answer off."""
        if self.refusal:
            raise Unavailable(f"the server under measurement answered {self.refusal!r}")


class _Reader(asyncio.Protocol):
    """Reads one answer into a Stream."""

    def __init__(self, stream: Stream, begun: asyncio.Event) -> None:
        self._stream = stream
        self._begun = begun
        self._tail = b""

    def data_received(self, data: bytes) -> None:
        """Note the tokens in what has come; a mark may be cut in two."""
        now, stream = time.perf_counter(), self._stream
        if not stream.is_begun:
            stream.is_begun = True
            self._begun.set()
            if not data.startswith(b"HTTP/1.1 200"):
                stream.refusal = data.partition(b"\r\n")[0].decode(errors="replace")
        seen = self._tail + data
        stream.token_s.extend([now] * seen.count(MARK))
        if END in seen:
            stream.ended.set()
        cut = seen.rfind(MARK)
        keep = len(seen) - max(len(MARK), len(END)) + 1
        self._tail = seen[max(keep, cut + len(MARK) if cut >= 0 else 0, 0) :]

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the end of the connection as the end of the answer."""
        if not self._stream.ended.is_set():
            self._stream.refusal = self._stream.refusal or "nothing more: it closed the connection"
        self._begun.set()
        self._stream.ended.set()


def request_bytes(host: str, num_tokens: int) -> bytes:
    """Return a request for a streamed answer of so many tokens."""
    messages = [{"role": "user", "content": "Tell me of the herd that crossed the pass in the snow."}]
    body = json.dumps({"messages": messages, "max_tokens": num_tokens, "stream": True}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


async def ask(host: str, port: int, num_tokens: int) -> tuple[Stream, asyncio.Transport]:
    """Ask for an answer; return when its first byte has come. The caller closes the transport."""
    stream, begun = Stream(), asyncio.Event()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(lambda: _Reader(stream, begun), host, port)
    stream.asked_s = time.perf_counter()
    transport.write(request_bytes(f"{host}:{port}", num_tokens))
    await begun.wait()
    stream.check()
    return stream, transport


async def read_all(host: str, port: int, num_streams: int, num_tokens: int) -> list[Stream]:
    """Ask for so many answers at once and read them to their ends. Raises Unavailable."""
    opened = await asyncio.gather(*(ask(host, port, num_tokens) for _ in range(num_streams)))
    for stream, _ in opened:
        await stream.ended.wait()
        stream.check()
    close(opened)
    return [stream for stream, _ in opened]


def close(opened: Sequence[tuple[Stream, asyncio.Transport]]) -> None:
    """Close connections."""
    for _, transport in opened:
        transport.close()


async def settled(host: str, port: int, limit_s: float = 60.0) -> None:
    """Wait until the server answers no request any more. Raises Unavailable when it still does after `limit_s`."""
    until = time.monotonic() + limit_s
    while await _in_flight(host, port) > 0:
        if time.monotonic() > until:
            raise Unavailable(f"the server under measurement still answers {limit_s:g} s after all had left")
        await asyncio.sleep(LOOK_S)


async def _in_flight(host: str, port: int) -> float:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"GET /metrics HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
        text = (await reader.read()).decode(errors="replace")
    finally:
        writer.close()
    lines = (line.split() for line in text.splitlines() if line.startswith(IN_FLIGHT))
    return next((float(words[1]) for words in lines if len(words) == 2), 0.0)
