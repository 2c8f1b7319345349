"""Many requests put to a model at once, and all their answers: for callers that bring a batch.

The engine takes so many at a time and queues a few hundred; a batch of ten thousand waits here instead, so that its
length is nobody's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing

from camelid.types import Event

from .collected import Answer, Collector


async def collect_async(events: AsyncGenerator[Event, None]) -> Answer:
    """Return the answer that events make up as they come. Being cancelled ends the answer."""
    collector = Collector()
    async with aclosing(events):
        async for event in events:
            collector.feed(event)
    return collector.answer()


async def answer_all(requests: Iterable[Callable[[], AsyncGenerator[Event, None]]], most: int) -> list[Answer]:
    """Return the answers to `requests` in their order, at most `most` open at a time.

    What goes wrong with one ends all of them, and is raised.
    """
    room = asyncio.Semaphore(most)

    async def answer(begin: Callable[[], AsyncGenerator[Event, None]]) -> Answer:
        async with room:
            return await collect_async(begin())

    tasks = [asyncio.ensure_future(answer(begin)) for begin in requests]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()  # does nothing to those that are done
        await asyncio.gather(*tasks, return_exceptions=True)
