"""Several streams of events as one, for replies that answer more than one prompt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from camelid.types import Event


async def merge(streams: Sequence[AsyncGenerator[Event, None]], num_choices: int) -> AsyncGenerator[Event, None]:
    """Yield the events of all `streams` as they come. The choices of stream i are numbered from i * num_choices on.

    An error of one stream closes the others and is raised.
    """
    arrived: asyncio.Queue[Event | asyncio.Future[None]] = asyncio.Queue()

    async def pump(index: int, stream: AsyncGenerator[Event, None]) -> None:
        async with aclosing(stream):
            async for event in stream:
                arrived.put_nowait(_shifted(event, index * num_choices))

    pumps = [asyncio.ensure_future(pump(index, stream)) for index, stream in enumerate(streams)]
    for task in pumps:
        task.add_done_callback(arrived.put_nowait)
    try:
        num_open = len(pumps)
        while num_open:
            item = await arrived.get()
            if isinstance(item, asyncio.Future):
                item.result()
                num_open -= 1
            else:
                yield item
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


def _shifted(event: Event, by: int) -> Event:
    return replace(event, choice=event.choice + by) if by else event
