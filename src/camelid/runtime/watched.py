"""An answer that is watched: the request is judged before it is answered, and no text leaves before it is judged.

The answer goes on growing while a part of it is being judged; what has come meanwhile is judged together, so a slow
judge makes fewer and longer pieces and never falls behind. It knows events and a way to have them judged, and neither
the judge nor the engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from camelid.types import Event, Finished, FinishReason, Reasoning, Refusal, Started, Text, ToolCalled, Usage

JudgeText = Callable[[str], Awaitable[Refusal | None]]  # takes all that an answer has said so far


def refused(refusal: Refusal, num_choices: int) -> list[Event]:
    """Return the events of a request that is not answered."""
    ends = [Finished(FinishReason.CONTENT_FILTER, choice, refusal=refusal) for choice in range(num_choices)]
    return [Started(0), *ends[:-1], replace(ends[-1], usage=Usage(0, 0))]


async def watched(
    events: AsyncGenerator[Event, None], judge: JudgeText, cut: set[int], hold_back: int, num_choices: int
) -> AsyncGenerator[Event, None]:
    """Yield the events of an answer, each piece of text after it was judged safe together with all before it.

    A choice that is judged unsafe is put into `cut`, for its turn to end it; its last event says why, and what was not
    shown by then never is. hold_back: characters that are gathered before they are judged, 0 for the whole answer.
    Raises what the events and the judge raise.
    """
    watch = _Watch(judge, cut, hold_back, num_choices)
    pump = asyncio.ensure_future(watch.pump(events))
    pump.add_done_callback(watch.arrived.put_nowait)
    try:
        while watch.num_open:
            item = await watch.arrived.get()
            found = item.result() if isinstance(item, asyncio.Future) else item
            for event in watch.take(found) if found is not None else ():
                yield event
    finally:
        tasks = [pump, *(choice.judging for choice in watch.choices if choice.judging is not None)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass
class _Choice:
    """One choice: what it has said, and what of that nobody has seen."""

    held: list[Event] = field(default_factory=list)
    num_characters: int = 0  # in `held`
    said: str = ""  # all of it
    judging: asyncio.Task[_Judged] | None = None
    refusal: Refusal | None = None
    finished: Finished | None = None


@dataclass(frozen=True)
class _Judged:
    """The verdict on a choice, up to the first `num_events` that were held."""

    choice: int
    num_events: int
    refusal: Refusal | None


class _Watch:
    """The state of one watched request. Everything that happens arrives in one queue."""

    def __init__(self, judge: JudgeText, cut: set[int], hold_back: int, num_choices: int) -> None:
        self.arrived: asyncio.Queue[Event | asyncio.Future[Any]] = asyncio.Queue()  # futures: what judges, or the pump
        self.choices = [_Choice() for _ in range(num_choices)]
        self.num_open = num_choices
        self._judge, self._cut, self._hold_back = judge, cut, hold_back
        self._usage: Usage | None = None

    async def pump(self, events: AsyncGenerator[Event, None]) -> None:
        """Put the events into the queue as they come."""
        async with aclosing(events):
            async for event in events:
                self.arrived.put_nowait(event)

    def take(self, item: Event | _Judged) -> list[Event]:
        """Take what has happened and return what may be shown."""
        if isinstance(item, Started):
            return [item]
        choice = self.choices[item.choice]
        shown = choice.held[: item.num_events] if isinstance(item, _Judged) else []
        if isinstance(item, _Judged):
            self._note_verdict(choice, item)
        elif isinstance(item, Finished):
            choice.finished = item
            self._usage = item.usage or self._usage
        elif choice.refusal is None:
            choice.held.append(item)
            choice.said, before = choice.said + _said(item), len(choice.said)
            choice.num_characters += len(choice.said) - before
        return [*(shown if choice.refusal is None else []), *self._go_on(choice, item.choice)]

    def _note_verdict(self, choice: _Choice, verdict: _Judged) -> None:
        choice.judging, choice.refusal = None, verdict.refusal
        choice.held = [] if verdict.refusal else choice.held[verdict.num_events :]
        choice.num_characters = sum(len(_said(event)) for event in choice.held)
        if verdict.refusal is not None:
            self._cut.add(verdict.choice)

    def _go_on(self, choice: _Choice, index: int) -> list[Event]:
        """Have what is held judged if it is enough, or return the end of a choice of which nothing is held."""
        if choice.judging is not None:
            return []
        if choice.finished is not None and not choice.held:
            return [self._end(choice, choice.finished)]
        if choice.held and (choice.finished or 0 < self._hold_back <= choice.num_characters):
            choice.judging = asyncio.ensure_future(self._have_judged(index, len(choice.held), choice.said))
            choice.judging.add_done_callback(self.arrived.put_nowait)
        return []

    async def _have_judged(self, index: int, num_events: int, said: str) -> _Judged:
        return _Judged(index, num_events, await self._judge(said))

    def _end(self, choice: _Choice, finished: Finished) -> Finished:
        """Return the end of a choice; the last one has the usage."""
        self.num_open -= 1
        usage = None if self.num_open else self._usage
        if choice.refusal is None:
            return replace(finished, usage=usage)
        reason = FinishReason.CONTENT_FILTER
        return Finished(reason, finished.choice, usage, refusal=choice.refusal)  # no ids: they could be read


def _said(event: Event) -> str:
    """Return what an event says, as the judge reads it."""
    match event:
        case Text() | Reasoning():
            return event.text
        case ToolCalled():
            return f'\n{{"name": "{event.call.name}", "parameters": {event.call.arguments}}}\n'
        case _:
            return ""
