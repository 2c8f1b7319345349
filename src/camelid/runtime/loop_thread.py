"""An asyncio loop in a thread, for callers that block: the library is plain calls, the runtime is asynchronous."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator
from typing import Any, TypeVar

_Result = TypeVar("_Result")
_Item = TypeVar("_Item")


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

    def run(self, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
        """Run a coroutine in the loop and return its result. An interrupt of the caller cancels it."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
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
