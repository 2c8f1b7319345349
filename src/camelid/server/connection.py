"""One HTTP connection with deadlines and bounds, which uvicorn does not bring.

uvicorn reads and writes the messages; this protocol watches the clock and the sizes around it. A connection is in one
phase at a time, and each phase has at most one timer:

    silent   connected, no byte yet                       silent_s, then closed
    head     request line and headers come in             header_s, then 408
    body     the body comes in                            body_s and some for each MiB, then 408
    answer   the application works and writes             none (but see `pause_writing`)
    idle     between two requests                         uvicorn's own keep-alive timer
    linger   answered before the body was in; the rest
             is dropped, so that the client reads on      linger_s, then cut
    closing  what is written still has to leave           stalled_s, then cut

The parser (llhttp, through httptools) is strict about framing: two lengths, folded lines, bare line feeds and the like
are errors there. What it lets through and a proxy might read differently is refused here.
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from .errors import Envelope, http_problem
from .limits import Limits
from .short_way import offer

UPLOADS = b"/api/blobs/"  # the one path whose bodies are files
Phase = Literal["silent", "head", "body", "answer", "idle", "linger", "closing"]

_ONCE = (b"host", b"transfer-encoding", b"content-type", b"authorization")  # twice would be ambiguous
_MIB = 2**20


def bounded(limits: Limits, envelope: Envelope) -> type[HttpToolsProtocol]:
    """Return the protocol class for uvicorn, which makes its protocols itself and passes them nothing of ours."""
    return type("BoundedConnection", (Connection,), {"limits": limits, "envelope": staticmethod(envelope)})


class _Stop(Exception):
    """Raised in a callback of the parser, so that it reads no further."""


class _Transport:
    """The transport as uvicorn sees it: `close` is ours."""

    def __init__(self, real: asyncio.Transport, connection: Connection) -> None:
        self._real, self._connection = real, connection

    def close(self) -> None:
        self._connection.close()

    def is_closing(self) -> bool:
        return self._connection.phase in ("linger", "closing") or self._real.is_closing()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class Connection(HttpToolsProtocol):
    """A connection that nobody can hold open for nothing, or make keep more than the limits say."""

    limits: Limits
    envelope: Envelope

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.phase: Phase = "silent"
        self._timer: asyncio.TimerHandle | None = None  # of the phase
        self._stalled: asyncio.TimerHandle | None = None  # of a slow reader
        self._head_bytes = 0

    # called by asyncio

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, or turn the connection away if there are too many."""
        self._real = transport
        super().connection_made(cast(asyncio.Transport, _Transport(transport, self)))
        transport.set_write_buffer_limits(high=self.limits.write_buffer_bytes)
        self._enter("silent", self.limits.silent_s)
        if len(self.connections) > self.limits.max_connections:
            self._enter("head")  # so that the answer outlives the request, which is on its way
            self._refuse(503, "too many connections are open")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        self._enter("closing")
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes in. The parser's callbacks tell what they were."""
        if self.phase in ("linger", "closing"):
            return
        if self.phase == "answer":
            self._take_no_more()
            return
        if self.phase in ("silent", "idle"):
            self._head_bytes = 0
            self._enter("head", self.limits.header_s)
        self._head_bytes += len(data)
        super().data_received(data)
        if self.phase == "head" and self._head_bytes > self.limits.header_bytes:
            self._refuse(431, f"the headers must have at most {self.limits.header_bytes} bytes")

    def pause_writing(self) -> None:
        """Make the application wait for a slow reader, but not for ever."""
        super().pause_writing()
        self._stalled = self.loop.call_later(self.limits.stalled_s, self._real.abort)

    def resume_writing(self) -> None:
        """Go on: the reader has caught up."""
        if self._stalled is not None:
            self._stalled.cancel()
        super().resume_writing()

    # called by the parser

    def on_message_begin(self) -> None:
        """Begin a request, unless the one before is still being answered."""
        if self.phase == "answer":
            self._take_no_more()
            raise _Stop
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Take a piece of the request's target."""
        super().on_url(url)
        if len(self.url) > self.limits.request_line_bytes:
            self._stop(414, f"the request line must have at most {self.limits.request_line_bytes} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header. One after the body (a trailer) would pass for one that a proxy has checked: refused."""
        if self.phase != "head":
            self._stop(400, "trailers are not taken")
        super().on_header(name, value)
        if len(self.headers) > self.limits.header_fields:
            self._stop(431, f"there must be at most {self.limits.header_fields} headers")

    def on_headers_complete(self) -> None:
        """Check the head, and begin to wait for the body."""
        if sum(len(name) + len(value) + 4 for name, value in self.headers) > self.limits.header_bytes:
            self._stop(431, f"the headers must have at most {self.limits.header_bytes} bytes")
        names = [name for name, _ in self.headers]
        for name in _ONCE:
            if names.count(name) > 1:
                self._stop(400, f"the header {name.decode()} must not be there twice")
        version = self.parser.get_http_version()
        if version == "1.1" and b"host" not in names:
            self._stop(400, "the Host header is missing")
        if version == "1.0" and b"transfer-encoding" in names:
            self._stop(400, "HTTP/1.0 has no transfer-encoding")
        self._enter("body", self._body_seconds(dict(self.headers)))
        super().on_headers_complete()
        offer(self.cycle)  # the application has not begun: it is a task that waits for this to return

    def on_message_complete(self) -> None:
        """Leave the clock to the application."""
        self._enter("answer")
        super().on_message_complete()

    # called by uvicorn

    def on_response_complete(self) -> None:
        """Wait for the next request; but where the body of this one is still coming, end the connection."""
        if self.phase == "body":
            self.close()
        super().on_response_complete()
        if self.phase == "answer":
            self._enter("idle")

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser could not read. What a callback above has refused is answered already."""
        self._refuse(400, "this is not valid HTTP")

    def close(self) -> None:
        """Close once everything written has left, and the client had a chance to read it."""
        if self.phase in ("linger", "closing"):
            return
        if self.phase in ("head", "body") and self._real.can_write_eof() and not self._real.is_closing():
            # Closing a socket with unread bytes resets it, and a reset can take the answer with it.
            self.flow.resume_reading()
            self._real.write_eof()
            self._enter("linger", self.limits.linger_s)
        else:
            self._real.close()
            self._enter("closing", self.limits.stalled_s)

    # our own

    def _enter(self, phase: Phase, seconds: float | None = None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.phase = phase
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._expired)

    def _expired(self) -> None:
        if self.phase == "head":
            self._refuse(408, f"the headers must be complete within {self.limits.header_s:g} seconds")
        elif self.phase == "body":
            self._refuse(408, "the body did not come in time")
        elif self.phase == "silent":
            self.close()
        else:
            self._real.abort()

    def _body_seconds(self, headers: dict[bytes, bytes]) -> float:
        """Return how long the body may take. One without an announced length gets the time of the largest."""
        is_upload = self.url.startswith(UPLOADS)
        most = self.limits.upload_bytes if is_upload else self.limits.body_bytes
        announced = min(int(headers.get(b"content-length", most)), most)
        return self.limits.body_s + self.limits.body_s_per_mib * announced / _MIB

    def _take_no_more(self) -> None:
        """End the connection behind the running answer: the next request may not be sent before this one's answer."""
        self.cycle.keep_alive = False

    def _stop(self, status: int, message: str) -> None:
        self._refuse(status, message)
        raise _Stop

    def _refuse(self, status: int, message: str) -> None:
        """Answer with an error and close. An answer that has begun cannot be changed any more: then only close."""
        if self.transport.is_closing() or self.phase == "answer":
            return
        begun = False
        if self.cycle is not None and not self.cycle.response_complete:
            begun = self.cycle.response_started
            self.cycle.disconnected = True  # for the application the client is gone
            self.cycle.message_event.set()
        if not begun:
            self._real.write(self._response(status, message))
        self.close()

    def _response(self, status: int, message: str) -> bytes:
        problem = http_problem(status, message, close=True)
        body = type(self).envelope(problem)
        headers = problem.headers | {"content-length": str(len(body))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return STATUS_LINE[status] + lines.encode() + b"\r\n" + body
