"""Puts the parts of `async_predict` together for one server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from camelid.settings import ServerSettings

from ..door import Door
from .queue import JobQueue
from .routes import JobRoutes
from .worker import JobWorker, Notices


class Answering(Protocol):
    """Who answers what is in the queue."""

    def check(self, fields: object) -> None:
        """Refuse an input that cannot be answered."""

    @property
    def answer_later(self) -> Callable[[bytes], Awaitable[bytes]]:
        """Return the answer to an input."""


@dataclass(frozen=True)
class Jobs:
    """The routes, and the worker where there is a queue."""

    routes: JobRoutes
    queue: JobQueue | None
    worker: JobWorker | None

    async def run(self) -> None:
        """Work until cancelled; without a queue there is nothing to do."""
        if self.worker is None or self.queue is None:
            return
        try:
            await self.worker.run()
        finally:
            self.queue.close()


def open_jobs(settings: ServerSettings, answering: Answering, door: Door) -> Jobs:
    """Open the queue, if there is to be one. Raises InvalidSetting where it cannot be opened."""
    hosts = tuple(host.lower() for host in settings.webhook_hosts)
    if settings.async_queue is None:
        return Jobs(JobRoutes(None, answering.check, lambda: None, hosts, door.limits), None, None)
    queue = JobQueue(Path(settings.async_queue))
    worker = JobWorker(queue, answering.answer_later, door.lifecycle, Notices(settings.webhook_key, hosts))
    return Jobs(JobRoutes(queue, answering.check, worker.wake, hosts, door.limits), queue, worker)
