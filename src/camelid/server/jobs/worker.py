"""Does the jobs of a queue beside the requests that wait for their answer, and sends the notices.

What fails for the server's sake (no engine, no room) is tried again with growing pauses; what fails for the request's
sake is not. While the server leaves, nothing new is begun; what it cuts is queued again for the next process.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from camelid.errors import CamelidError, InvalidRequest, OutOfMemory, Overloaded, RequestsFailed, Unavailable

from ..lifecycle import Lifecycle
from ..stream import while_connected
from .queue import Job, JobQueue
from .webhook import Undelivered, deliver

AT_A_TIME = 4
NOTICES_AT_A_TIME = 16
LOOK_S = 0.25  # for what became due; a new job wakes the worker at once
FULL_PAUSE_S = 5.0  # while nothing can be written
DELIVERY_PAUSES_S = (1.0, 4.0, 16.0, 64.0, 256.0)
_AGAIN = (Unavailable, Overloaded, RequestsFailed, OutOfMemory)
_logger = logging.getLogger("camelid.jobs")


@dataclass(frozen=True)
class Notices:
    """How notices are sent. keys: they are signed with each; hosts: where they may go beside public addresses."""

    keys: Sequence[str] = ()
    hosts: Sequence[str] = ()
    model: str = "model"


class JobWorker:
    """Works until it is cancelled."""

    def __init__(
        self,
        queue: JobQueue,
        answer: Callable[[bytes], Awaitable[bytes]],
        lifecycle: Lifecycle,
        notices: Notices,
        pauses_s: Sequence[float] = DELIVERY_PAUSES_S,
    ) -> None:
        """`answer` returns the JSON answer to a JSON input, or raises a CamelidError."""
        self._queue, self._answer, self._lifecycle = queue, answer, lifecycle
        self._notices, self._pauses_s = notices, pauses_s
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Say that there is a new job."""
        self._woken.set()

    async def run(self) -> None:
        """Do jobs and send notices."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._deliver_all(tasks))
            for _ in range(AT_A_TIME):
                tasks.create_task(self._work())

    async def _work(self) -> None:
        while True:
            job = None
            if self._lifecycle.is_started and not self._lifecycle.is_leaving:
                job = await self._written(self._queue.take)
            if job is None:
                await self._rest()
            else:
                await self._do(job)

    async def _do(self, job: Job) -> None:
        try:
            with self._lifecycle.request() as ended:
                result = await while_connected(_awaited(self._answer(job.input)), _silence, ended)
        except _AGAIN as error:
            is_cut = self._lifecycle.is_leaving
            if is_cut or job.attempts + 1 < job.max_attempts:
                await self._written(lambda: self._queue.put_back(job, counts=not is_cut))
                return
            await self._failed(job, "MODEL_UNAVAILABLE", error.message)
        except InvalidRequest as error:
            await self._failed(job, "MODEL_INVALID_INPUT", error.message)
        except CamelidError as error:
            await self._failed(job, "MODEL_PREDICT_ERROR", error.message)
        except Exception:
            _logger.exception("job %s failed", job.id)
            await self._failed(job, "INTERNAL_SERVER_ERROR", "something went wrong in the server; its log has more")
        else:
            await self._written(lambda: self._queue.finish(job, result))

    async def _failed(self, job: Job, code: str, message: str) -> None:
        errors: tuple[Mapping[str, str], ...] = ({"code": code, "message": message},)
        await self._written(lambda: self._queue.finish(job, None, errors))

    async def _deliver_all(self, tasks: asyncio.TaskGroup) -> None:
        """Send what is due, several at a time: one address that does not answer holds up no other."""
        under_way: set[str] = set()
        slots = asyncio.Semaphore(NOTICES_AT_A_TIME)
        while True:
            await slots.acquire()
            job: Job | None = await self._written(lambda: self._queue.next_delivery(tuple(under_way)))
            if job is None:
                slots.release()
                await asyncio.sleep(LOOK_S)
                continue
            under_way.add(job.id)
            tasks.create_task(self._deliver_in(job, under_way, slots))

    async def _deliver_in(self, job: Job, under_way: set[str], slots: asyncio.Semaphore) -> None:
        try:
            await self._deliver(job)
        finally:
            under_way.discard(job.id)
            slots.release()

    async def _deliver(self, job: Job) -> None:
        assert job.webhook is not None
        try:
            await deliver(job.webhook, notice(job, self._notices.model), self._notices.keys, self._notices.hosts)
        except Undelivered as error:
            pause_s = self._pauses_s[job.deliveries] if job.deliveries < len(self._pauses_s) else None
            what = "given up" if pause_s is None else f"tried again in {pause_s:g} s"
            _logger.warning("the notice of job %s did not arrive (%s) and is %s", job.id, error, what)
            await self._written(lambda: self._queue.delivered(job, again_in_s=pause_s, is_there=False))
        else:
            await self._written(lambda: self._queue.delivered(job, again_in_s=None, is_there=True))

    async def _written(self, write: Callable[[], Any]) -> Any:
        """Return what `write` returns; while the disk is full, try again and again: what is done must not be lost."""
        while True:
            try:
                return await asyncio.to_thread(write)
            except Overloaded as error:
                _logger.error("%s; tried again in %g s", error.message, FULL_PAUSE_S)
                await asyncio.sleep(FULL_PAUSE_S)

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(LOOK_S):
                await self._woken.wait()
        except TimeoutError:
            return
        self._woken.clear()


def notice(job: Job, model: str) -> bytes:
    """Return what a webhook is sent, as Baseten writes it."""
    return json.dumps(
        {
            "request_id": job.id,
            "model_id": model,
            "deployment_id": model,
            "type": "async_request_completed",
            "time": datetime.now(UTC).isoformat(),
            "data": None if job.result is None else json.loads(job.result),
            "errors": [dict(error) for error in job.errors],
        }
    ).encode()


async def _awaited(work: Awaitable[bytes]) -> bytes:
    return await work


async def _silence() -> Any:
    """Nobody waits, so nobody leaves."""
    await asyncio.get_running_loop().create_future()
