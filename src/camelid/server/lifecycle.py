"""Where the server is in its life, and which requests are running in it.

starting → serving → leaving (finishes what runs; takes new requests for a few seconds more) → refusing → gone.
Knows neither HTTP nor the runtime: the routes ask it whether to begin, the server tells it to leave.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from camelid.errors import Unavailable


class Lifecycle:
    """The state of one server. Used from its event loop only."""

    def __init__(self) -> None:
        self.is_started = False  # the model is loaded and has made a token
        self.is_leaving = False
        self.is_refusing = False
        self._running: set[asyncio.Future[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def num_running(self) -> int:
        """Requests to the model that are being answered."""
        return len(self._running)

    @contextmanager
    def request(self) -> Iterator[asyncio.Future[None]]:
        """Count one request in for as long as the block runs.

        The future fails with Unavailable if the request must end before it is done.

        Raises Unavailable when the server takes no requests now.
        """
        if not self.is_started:
            raise Unavailable("the model is still being loaded")
        if self.is_refusing:
            raise Unavailable("the server is shutting down", hint="ask again: another one may be there by then")
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._running.add(ended)
        self._idle.clear()
        try:
            yield ended
        finally:
            self._running.discard(ended)
            if ended.done():
                ended.exception()  # seen, whether or not anybody waited for it
            if not self._running:
                self._idle.set()

    async def wait_idle(self, seconds: float) -> bool:
        """Wait until nothing runs, at most `seconds`. Return whether that is so."""
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def cut(self) -> int:
        """End all running requests with Unavailable. Return how many there were."""
        for ended in self._running:
            if not ended.done():
                ended.set_exception(Unavailable("the server is shutting down and could not finish this answer in time"))
        return len(self._running)
