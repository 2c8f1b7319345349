"""One job while it is being answered: its text so far, and what the server asked of it in the meantime.

Knows the runtime and no wire: what is told to the server is read from here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Protocol

from camelid.errors import CamelidError
from camelid.types import ChatRequest, CompletionRequest, Event, Finished, Started, Text

from .jobs import Counts, Job, Request, go_on, outputs, to_request
from .tasks import end


class Answers(Protocol):
    """The part of the runtime that a worker needs."""

    def chat(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        """Yield the events of one conversation turn."""

    def complete(self, request: CompletionRequest) -> AsyncGenerator[Event, None]:
        """Yield the events of one plain completion."""


class Answering:
    """A job and its answer. `run` it in a task of its own; everything else may be called meanwhile."""

    def __init__(self, job: Job, model: str, context_length: int) -> None:
        self.job = job
        self.text = ""
        self.counts = Counts()
        self.error: str | None = None
        self._model, self._context_length = model, context_length
        self._changes: dict[str, Any] = {}
        self._end = asyncio.Event()  # nobody wants more of it
        self._interrupt = asyncio.Event()  # an end or a change is to be seen to

    async def run(self, runtime: Answers) -> None:
        """Answer the job. Whatever goes wrong is its `error`, with the text until then."""
        try:
            request: Request | None = to_request(self.job, self._model)
            while request is not None and not self._end.is_set():
                self._interrupt.clear()
                request = await self._answer(runtime, request)
        except CamelidError as error:
            self.error = error.message

    def stop(self, error: str | None = None) -> None:
        """End the answer where it is."""
        self.error = self.error or error
        self._end.set()
        self._interrupt.set()

    def change(self, parameters: Mapping[str, Any]) -> None:
        """Let inputs count that the server changed after the job had begun."""
        self._changes.update(parameters)
        self._interrupt.set()

    def outputs(self) -> dict[str, Any]:
        """Return the outputs of the result, as things are now."""
        return outputs(self.text, self.counts, self._model, self._context_length, self.error)

    async def _answer(self, runtime: Answers, request: Request) -> Request | None:
        """Take events until the answer ends (None) or has to go on differently."""
        before, num_before = self.text, self.counts.generated
        taking = asyncio.create_task(self._take_all(runtime, request))
        interrupt = asyncio.create_task(self._interrupt.wait())
        try:
            await asyncio.wait([taking, interrupt], return_when=asyncio.FIRST_COMPLETED)
            if taking.done() or self._end.is_set():
                return taking.result() if taking.done() else None
        finally:
            await end([taking, interrupt])
        changes, self._changes = self._changes, {}
        return go_on(request, self.text[len(before) :], self.counts.generated - num_before, changes)

    async def _take_all(self, runtime: Answers, request: Request) -> None:
        num_before = self.counts.generated
        stream = runtime.chat(request) if isinstance(request, ChatRequest) else runtime.complete(request)
        async with aclosing(stream) as events:
            async for event in events:
                self._take(event, num_before)

    def _take(self, event: Event, num_before: int) -> None:
        if isinstance(event, Started):
            if not self.counts.prompt:  # of the job as it came, not of what it goes on with
                self.counts = replace(self.counts, prompt=event.prompt_tokens)
        elif isinstance(event, Text):
            self.text += event.text
            self.counts = replace(self.counts, generated=self.counts.generated + 1)  # known exactly at the end
        elif isinstance(event, Finished) and event.usage is not None:
            self.counts = replace(self.counts, generated=num_before + event.usage.completion_tokens)
