"""How the server leaves: signals, the last answers, and nothing lost without a word.

First SIGTERM or Ctrl-C: not ready from this moment on. After SIGTERM requests still come in for a few seconds, because
balancers need them to notice. Then the door is shut, running answers are finished for as long as the drain time lasts,
and what is left over is ended with an error event. A second signal skips the waiting.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn

from .lifecycle import Lifecycle
from .limits import Limits

_logger = logging.getLogger("camelid.server")


class LeavingServer(uvicorn.Server):
    """uvicorn's server with our way to leave."""

    def __init__(self, config: uvicorn.Config, lifecycle: Lifecycle, drain_seconds: float, limits: Limits) -> None:
        super().__init__(config)
        self._lifecycle, self._drain_seconds, self._limits = lifecycle, drain_seconds, limits
        self._leave_by: float | None = None  # on the loop's clock
        self._forced = asyncio.Event()
        self.forced_by: int | None = None  # the second signal, if there was one

    def leave(self, signal_number: int = signal.SIGINT) -> None:
        """Begin to leave; called again, stop now."""
        loop = asyncio.get_running_loop()
        if self._leave_by is not None:
            self.forced_by = signal_number
            self.should_exit = True
            self._forced.set()
            return
        self._leave_by = loop.time() + self._drain_seconds
        self._lifecycle.is_leaving = True
        num_running = self._lifecycle.num_running
        _logger.info("shutting down: %d answers are running, at most %g s for them", num_running, self._drain_seconds)
        if signal_number == signal.SIGTERM and self._lifecycle.is_started:
            loop.call_later(min(self._limits.accept_after_term_s, self._drain_seconds), self._shut_door)
        else:
            self._shut_door()

    def _shut_door(self) -> None:
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Listen to signals while the block runs (uvicorn's hook).

        Unlike uvicorn's own, a signal obeyed is not raised again.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()

        def obey(number: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(self.leave, number)

        before = {number: signal.signal(number, obey) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what runs, end the rest, close (uvicorn's hook)."""
        self._lifecycle.is_leaving = self._lifecycle.is_refusing = True
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()  # idle ones close now, busy ones after their answer
        if not await self._finished():
            _logger.warning("%d answers were cut", self._lifecycle.cut())
            await self._lifecycle.wait_idle(self._limits.cut_s)
        await super().shutdown(sockets)

    async def _finished(self) -> bool:
        """Wait until nothing runs; give up when the time is over or a second signal comes."""
        now = asyncio.get_running_loop().time()
        seconds = self._drain_seconds if self._leave_by is None else max(0.0, self._leave_by - now)
        idle = asyncio.ensure_future(self._lifecycle.wait_idle(seconds))
        forced = asyncio.ensure_future(self._forced.wait())
        await asyncio.wait([idle, forced], return_when=asyncio.FIRST_COMPLETED)
        forced.cancel()
        idle.cancel()
        return self._lifecycle.num_running == 0
