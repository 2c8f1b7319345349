"""An asyncio loop in a thread, for callers that block: the library is plain calls, the runtime is asynchronous."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Iterator
from typing import TypeVar

_Result = TypeVar("_Result")
_Item = TypeVar("_Item")
_END_S = 1.0  # what is cancelled ends within a step of the engine; nobody waits longer for it


class LoopThread:
    """A loop, and what the calling thread may do with it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="camelid", daemon=True)
        self._thread.start()

    @property
    def is_open(self) -> bool:
        """True until it is closed."""
        return not self._loop.is_closed()

    def run(self, work: Awaitable[_Result]) -> _Result:
        """Wait for `work` in the loop and return its result. An interrupt of the caller (Ctrl-C) ends it, and is raised
        when it has ended.
        """
        ended = threading.Event()

        async def watched() -> _Result:
            try:
                return await work
            finally:
                ended.set()

        future = asyncio.run_coroutine_threadsafe(watched(), self._loop)
        try:
            return future.result()
        except BaseException:
            if future.cancel():
                ended.wait(_END_S)
            raise

    def iterate(self, events: AsyncGenerator[_Item, None]) -> Iterator[_Item]:
        """Yield what an asynchronous generator yields; closing this one closes that one."""

        async def following() -> _Item | None:
            return await anext(events, None)

        try:
            while (event := self.run(following())) is not None:
                yield event
        finally:
            if self.is_open:
                self.run(events.aclose())

    def close(self) -> None:
        """Stop the loop and its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
