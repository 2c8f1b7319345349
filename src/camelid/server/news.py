"""What work in a thread says while it lasts, for answers that are streamed. Knows no dialect."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

from camelid.errors import CamelidError

Item = TypeVar("Item")


class _End(Generic[Item]):
    def __init__(self, error: CamelidError | OSError | None) -> None:
        self.error = error


async def said(work: Callable[[Callable[[Item], None]], object]) -> AsyncIterator[Item]:
    """Run `work` in a thread and yield what it says. Raises the CamelidError or OSError that it raises, at its end."""
    loop, items = asyncio.get_running_loop(), asyncio.Queue[Item | _End[Item]]()

    def put(item: Item | _End[Item]) -> None:
        with contextlib.suppress(RuntimeError):  # the client has left and the loop with it
            loop.call_soon_threadsafe(items.put_nowait, item)

    def run() -> None:
        end: _End[Item] = _End(None)
        try:
            work(put)
        except (CamelidError, OSError) as error:
            end = _End(error)
        finally:
            put(end)

    task = asyncio.create_task(asyncio.to_thread(run))
    while not isinstance(item := await items.get(), _End):
        yield item
    await task
    if item.error is not None:
        raise item.error
