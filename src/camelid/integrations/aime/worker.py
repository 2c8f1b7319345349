"""The worker: asks for as many jobs as it has room for, answers them side by side, delivers the results.

A request for jobs is open for every part of the free room, so a new job joins the running ones at once. Knows neither
how a job becomes a request nor what a message looks like.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .answering import Answering, Answers
from .connection import POLL_EXTRA_S, Broken
from .delivery import deliver
from .jobs import Job, to_job
from .reporting import Reporter
from .session import Patience, Session
from .tasks import end
from .unfinished import Unfinished
from .wire import Refused, job_request, read_jobs

MOST_POLLS = 4
LAST_WORDS_S = 5.0  # for the results of jobs that are cut when the worker leaves
LEAVING = "the worker is shutting down"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Served:
    """The model that answers, with its name, the context that results tell, and how many jobs it answers at once."""

    runtime: Answers
    model: str
    context_length: int
    most_jobs: int


class Worker:
    """One worker of one API server. `run` it; `leave` ends it."""

    def __init__(self, session: Session, served: Served, unfinished: Unfinished, *, drain_s: float) -> None:
        """`drain_s`: how long running jobs may take when it leaves."""
        self._session, self._served, self._unfinished, self._drain_s = session, served, unfinished, drain_s
        self._reporter = Reporter(session)
        self._patience = Patience(session.first_wait_s)
        self._free = served.most_jobs
        self._has_room = asyncio.Event()
        self._leaving = asyncio.Event()
        self._hurry = asyncio.Event()
        self._polls: set[asyncio.Task[None]] = set()
        self._runs: dict[asyncio.Task[None], Answering] = {}

    async def run(self) -> None:
        """Work until `leave` is called. Raises Unauthorized when the server does not accept the worker's key.

        Jobs that an earlier worker of this name left behind are answered first.
        """
        reporting = asyncio.create_task(self._reporter.run())
        try:
            await self._unless_leaving(self._session.log_in())
            for job in self._unfinished.left():
                _log.info("job %s was left behind and is answered now", job.id)
                self._begin(job)
            await self._ask_for_jobs()
            await self._drain()
        finally:
            await end([reporting, *self._polls, *self._runs])

    def leave(self) -> None:
        """Take no more jobs, finish those that run, and end; called again: end them now."""
        if self._leaving.is_set():
            self._hurry.set()
            return
        _log.info("leaving: %d jobs are running, at most %g s for them", len(self._runs), self._drain_s)
        self._leaving.set()
        self._has_room.set()

    async def _ask_for_jobs(self) -> None:
        """Keep requests for jobs open for all the room there is."""
        while not self._leaving.is_set():
            self._has_room.clear()
            if self._free > 0 and len(self._polls) < MOST_POLLS:
                room, self._free = self._free, 0
                poll = asyncio.create_task(self._poll(room))
                self._polls.add(poll)
                poll.add_done_callback(self._end_poll)
            await self._has_room.wait()
        await end(self._polls)

    def _end_poll(self, poll: asyncio.Task[None]) -> None:
        self._polls.discard(poll)
        self._has_room.set()

    async def _poll(self, room: int) -> None:
        """Ask once for at most `room` jobs and begin them."""
        try:
            for data in await self._fetch(room):
                self._begin(to_job(data, secrets.randbits(63)))
        finally:
            self._free += room

    async def _fetch(self, room: int) -> tuple[Mapping[str, Any], ...]:
        """Return jobs, none if there are none now or the server has to be waited for."""
        session = self._session
        timeout_s = await session.log_in()
        body = job_request(session.identity, room, timeout_s)
        answer = await session.connection.tell("/worker_job_request", body, timeout_s + POLL_EXTRA_S)
        if isinstance(answer, Broken):
            _log.warning("the API server gives no jobs: %s", answer.reason)
            await self._patience.wait()
            return ()
        self._patience.reset()
        read = read_jobs(answer)
        if isinstance(read, Refused):
            _log.info("the API server wants a login: %s", read.reason)
            session.forget()
            return ()
        return read.jobs

    def _begin(self, job: Job) -> None:
        self._free -= 1  # below 0 if the server gives more than what was asked for: they wait in the engine
        answering = Answering(job, self._served.model, self._served.context_length)
        self._unfinished.keep(job)
        self._reporter.add(answering)
        run = asyncio.create_task(self._carry(answering))
        self._runs[run] = answering
        run.add_done_callback(self._end_run)

    def _end_run(self, run: asyncio.Task[None]) -> None:
        del self._runs[run]
        self._free += 1
        self._has_room.set()

    async def _carry(self, answering: Answering) -> None:
        """Answer one job and deliver the result."""
        job, begun = answering.job, time.monotonic()
        await answering.run(self._served.runtime)
        self._reporter.remove(job.id)
        if await deliver(self._session, job.id, answering.outputs()):
            self._unfinished.forget(job.id)
        how = f"failed ({answering.error})" if answering.error else "is answered"
        _log.info("job %s %s: %d tokens, %.1f s", job.id, how, answering.counts.generated, time.monotonic() - begun)

    async def _drain(self) -> None:
        """Let running jobs end, for a while; then end them, with what there is and the reason as their results."""
        if self._runs:
            finished = asyncio.ensure_future(asyncio.wait(self._runs, timeout=self._drain_s))
            hurry = asyncio.ensure_future(self._hurry.wait())
            await asyncio.wait([finished, hurry], return_when=asyncio.FIRST_COMPLETED)
            await end([finished, hurry])
        for answering in self._runs.values():
            answering.stop(LEAVING)
        if self._runs:
            await asyncio.wait(self._runs, timeout=LAST_WORDS_S)

    async def _unless_leaving(self, waiting: Any) -> None:
        """Wait for something, but no longer than until the worker leaves."""
        task, leaving = asyncio.ensure_future(waiting), asyncio.ensure_future(self._leaving.wait())
        await asyncio.wait([task, leaving], return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        if task.done():
            task.result()
        else:
            await end([task])
