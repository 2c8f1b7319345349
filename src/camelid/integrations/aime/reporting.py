"""Tells the API server how far the jobs are: at most five times a second, all of them in one message.

The first message about a job goes out at once: until then the server counts the time in its queue against it. Knows
what the server's answers mean for a job, and nothing of how jobs are answered.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from .answering import Answering
from .connection import Broken
from .session import Session
from .wire import Refused, Told, progress, read_progress

EVERY_S = 0.2
ALIVE_S = 30.0  # a job of which nothing is heard for six minutes is given up by the server
PATH = "/worker_job_progress"
MOST_FAILURES = 3  # of one job alone, before it counts as unknown to the server

_log = logging.getLogger(__name__)


@dataclass
class _Report:
    """A job that is being told about, and what was told last. Times are those of the loop."""

    answering: Answering
    told: str | None = None  # None: nothing yet, or it was lost
    told_at: float = 0.0
    not_before: float = 0.0
    num_failures: int = 0

    def is_due(self, now: float) -> bool:
        """Say whether there is news, or the last news are old."""
        has_news = self.told != self.answering.text or now - self.told_at >= ALIVE_S
        return has_news and now >= self.not_before

    def note_lost(self, again_at: float) -> None:
        """Note that the server did not get the news."""
        self.told, self.not_before = None, again_at


class Reporter:
    """The progress of all running jobs."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._reports: dict[str, _Report] = {}
        self._has_new = asyncio.Event()

    def add(self, answering: Answering) -> None:
        """Begin to tell about a job."""
        self._reports[answering.job.id] = _Report(answering)
        self._has_new.set()

    def remove(self, job_id: str) -> None:
        """Tell nothing more about a job."""
        self._reports.pop(job_id, None)

    async def run(self) -> None:
        """Tell until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._has_new.clear()
            if due := [report for report in self._reports.values() if report.is_due(loop.time())]:
                await self._tell(due)
            try:
                async with asyncio.timeout(EVERY_S):
                    await self._has_new.wait()
            except TimeoutError:
                pass

    async def _tell(self, reports: Sequence[_Report]) -> None:
        """Tell about these jobs; after a failure about each alone, because one unknown job fails the message of all."""
        answer = await self._send(reports)
        if isinstance(answer, Broken) and answer.has_failed and len(reports) > 1:
            for report in reports:
                self._take([report], await self._send([report]))
        else:
            self._take(reports, answer)

    async def _send(self, reports: Sequence[_Report]) -> Sequence[Told] | Refused | Broken:
        now = asyncio.get_running_loop().time()
        entries = []
        for report in reports:
            report.told, report.told_at = report.answering.text, now
            counts = report.answering.counts
            entries.append(progress(self._session.identity, report.answering.job.id, counts.generated, report.told))
        answer = await self._session.connection.tell(PATH, entries)
        return answer if isinstance(answer, Broken) else read_progress(answer, len(reports))

    def _take(self, reports: Sequence[_Report], answer: Sequence[Told] | Refused | Broken) -> None:
        if isinstance(answer, Refused):
            _log.warning("progress was refused: %s", answer.reason)
            self._session.forget()
        elif isinstance(answer, Broken):
            _log.debug("progress was lost: %s", answer.reason)
            again_at = asyncio.get_running_loop().time() + self._session.first_wait_s
            for report in reports:
                report.note_lost(again_at)
            if answer.has_failed and len(reports) == 1:
                self._note_failure(reports[0])
        else:
            for report, told in zip(reports, answer, strict=True):
                _obey(report, told)

    def _note_failure(self, report: _Report) -> None:
        report.num_failures += 1
        if report.num_failures >= MOST_FAILURES:
            _log.warning("job %s is not known to the server any more", report.answering.job.id)
            report.answering.stop("the server does not know this job any more")


def _obey(report: _Report, told: Told) -> None:
    report.num_failures = 0
    if told.is_canceled:
        report.answering.stop("canceled")
    elif told.parameters is not None:
        report.answering.change(told.parameters)
