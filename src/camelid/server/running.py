"""A server from the first connection to the last: it listens while what it serves is still being made ready."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from .leaving import LeavingServer

Ready = TypeVar("Ready")


def run(
    server: LeavingServer,
    listener: socket.socket,
    load: Callable[[], Coroutine[Any, Any, Ready]],
    begin: Callable[[Ready], None],
    close: Callable[[], Awaitable[None]],
    beside: Sequence[Callable[[], Coroutine[Any, Any, None]]] = (),
) -> None:
    """Serve until a signal; `begin` is called with what `load` returns, `close` at the end.

    Raises what loading and serving raise; leaves with SystemExit when a second signal stopped it.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_run(server, listener, load, begin, close, beside))
    if server.forced_by is not None:
        raise SystemExit(128 + server.forced_by)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes the loop: uvloop's, which takes a fifth off the cost of a token, where there is one."""
    if sys.platform == "win32":
        return asyncio.new_event_loop
    import uvloop

    return uvloop.new_event_loop


async def _run(
    server: LeavingServer,
    listener: socket.socket,
    load: Callable[[], Coroutine[Any, Any, Ready]],
    begin: Callable[[Ready], None],
    close: Callable[[], Awaitable[None]],
    beside: Sequence[Callable[[], Coroutine[Any, Any, None]]],
) -> None:
    """Listen, load the model, call `begin`, serve to the end, and do what is to be done `beside` it.

    Whichever of loading and serving fails, the other is stopped.
    """
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    loading = asyncio.ensure_future(load())
    others = [asyncio.ensure_future(one()) for one in beside]
    both: list[asyncio.Future[Any]] = [serving, loading]
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if loading.done() and loading.exception() is None:
            begin(loading.result())
        else:  # loading failed, or a signal came while it lasted
            server.should_exit = True
            loading.cancel()
        await asyncio.wait(both)
    finally:
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await close()
    serving.result()
    if not loading.cancelled():
        loading.result()
