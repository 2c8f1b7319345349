"""The queue of requests that are answered later: one SQLite file, which outlives the process at any point.

A job is QUEUED, then IN_PROGRESS, then at one of its ends; what is written counts even if the power goes the moment
after (write-ahead log, synchronous FULL). A job that was in progress when a process ended is queued again, and counts
one attempt: so a job is done at least once. Knows neither models nor HTTP.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from camelid.errors import InvalidSetting, Overloaded

FULL_S = 30.0  # when to come back to a full queue
SHOWN_S = 3600.0  # how long a job that ended can be asked for
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class Status(StrEnum):
    """Where a job is. Baseten's words."""

    QUEUED = "QUEUED"
    IN_PROGRESS = "IN_PROGRESS"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    EXPIRED = "EXPIRED"
    CANCELED = "CANCELED"
    WEBHOOK_FAILED = "WEBHOOK_FAILED"


class Delivery(StrEnum):
    """Where the notice of a job's end is. Baseten's words."""

    PENDING = "PENDING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"
    NONE = "NO_WEBHOOK_PROVIDED"


@dataclass(frozen=True)
class Bounds:
    """How much a queue holds: jobs that have not ended, and bytes of the whole file."""

    jobs: int = 10_000
    file_bytes: int = 2**30


@dataclass(frozen=True)
class Job:
    """A job as it is in the queue. Times are seconds since 1970; `input` and `result` are JSON."""

    id: str
    owner: str
    input: bytes
    webhook: str | None
    priority: int
    created_at: float
    expires_at: float
    max_attempts: int
    delay_s: float
    max_delay_s: float
    status: Status = Status.QUEUED
    delivery: Delivery = Delivery.NONE
    status_at: float = 0.0
    due_at: float = 0.0  # not before, for the next attempt at the job or at its delivery
    attempts: int = 0
    deliveries: int = 0
    result: bytes | None = None
    errors: tuple[Mapping[str, str], ...] = ()


_COLUMNS = tuple(Job.__dataclass_fields__)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, input BLOB NOT NULL, webhook TEXT, priority INTEGER NOT NULL,
    created_at REAL NOT NULL, expires_at REAL NOT NULL, max_attempts INTEGER NOT NULL, delay_s REAL NOT NULL,
    max_delay_s REAL NOT NULL, status TEXT NOT NULL, delivery TEXT NOT NULL, status_at REAL NOT NULL,
    due_at REAL NOT NULL, attempts INTEGER NOT NULL, deliveries INTEGER NOT NULL, result BLOB, errors TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS next_job ON jobs (status, priority, created_at);
PRAGMA user_version = 1;
"""


def new_id() -> str:
    """Return an identifier that nobody can guess."""
    return secrets.token_hex(16)


class JobQueue:
    """The jobs of one file. Every method blocks for as long as a disk takes, and may be called from any thread."""

    def __init__(self, path: Path, bounds: Bounds = Bounds(), clock: Callable[[], float] = time.time) -> None:
        """Open or make the file. Raises InvalidSetting where it is no queue, or another server has it."""
        self._bounds, self._clock, self._lock = bounds, clock, threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)  # prompts are in it
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0.5)
            self._prepare()
        except (OSError, sqlite3.Error) as error:
            is_busy = getattr(error, "sqlite_errorcode", 0) & 0xFF in _BUSY
            why = "another server uses it" if is_busy else str(error)
            raise InvalidSetting(f"the queue {path} cannot be opened: {why}", hint="--async-queue names it") from error

    def _prepare(self) -> None:
        db = self._db
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        (page_bytes,) = db.execute("PRAGMA page_size").fetchone()
        db.execute(f"PRAGMA max_page_count = {self._bounds.file_bytes // page_bytes}")
        db.executescript(_SCHEMA)
        now = self._clock()
        with self._writing():
            # What ran when the last process ended runs again; a job that ends every process does not for ever.
            db.execute(
                "UPDATE jobs SET status = 'QUEUED', status_at = ? "
                "WHERE status = 'IN_PROGRESS' AND attempts < max_attempts",
                (now,),
            )
            lost = json.dumps([{"code": "INTERNAL_SERVER_ERROR", "message": "the server ended in the middle of it"}])
            db.execute(
                "UPDATE jobs SET status = 'FAILED', status_at = ?, due_at = ?, errors = ?, input = '' "
                "WHERE status = 'IN_PROGRESS'",
                (now, now, lost),
            )

    def add(self, job: Job) -> None:
        """Keep a job. Raises Overloaded where the queue or its disk is full: then it is not kept."""
        with self._writing() as db:
            waiting = "SELECT count(*) FROM jobs WHERE status IN ('QUEUED', 'IN_PROGRESS') OR delivery = 'PENDING'"
            if db.execute(waiting).fetchone()[0] >= self._bounds.jobs:
                raise Overloaded(f"the queue holds {self._bounds.jobs} jobs, its most", retry_after_s=FULL_S)
            marks = ", ".join("?" * len(_COLUMNS))
            db.execute(f"INSERT INTO jobs ({', '.join(_COLUMNS)}) VALUES ({marks})", _row(job))

    def take(self) -> Job | None:
        """Return the next job, now IN_PROGRESS: the lowest priority number first, then the oldest."""
        now = self._clock()
        with self._writing() as db:
            db.execute(
                "UPDATE jobs SET status = 'EXPIRED', status_at = ?, input = '', "
                "delivery = CASE delivery WHEN 'PENDING' THEN 'CANCELED' ELSE delivery END "
                "WHERE status = 'QUEUED' AND expires_at <= ?",
                (now, now),
            )
            db.execute(
                "DELETE FROM jobs WHERE status_at < ? AND delivery != 'PENDING' "
                "AND status NOT IN ('QUEUED', 'IN_PROGRESS')",
                (now - SHOWN_S,),
            )
            found = db.execute(
                f"SELECT {', '.join(_COLUMNS)} FROM jobs WHERE status = 'QUEUED' AND due_at <= ? "
                "ORDER BY priority, created_at, rowid LIMIT 1",
                (now,),
            ).fetchone()
            if found is None:
                return None
            job = _job(found)
            db.execute(
                "UPDATE jobs SET status = 'IN_PROGRESS', status_at = ?, attempts = attempts + 1 WHERE id = ?",
                (now, job.id),
            )
            return job

    def finish(self, job: Job, result: bytes | None, errors: tuple[Mapping[str, str], ...] = ()) -> None:
        """Write down how a job ended; from now on its notice is due. The input is forgotten."""
        status = Status.FAILED if errors else Status.SUCCEEDED
        with self._writing() as db:
            db.execute(
                "UPDATE jobs SET status = ?, status_at = ?, due_at = ?, result = ?, errors = ?, input = '' "
                "WHERE id = ?",
                (status, self._clock(), self._clock(), result, json.dumps([*map(dict, errors)]), job.id),
            )

    def put_back(self, job: Job, *, counts: bool) -> None:
        """Queue a job again, later where the attempt `counts`, at once where it was cut short by the server."""
        pause_s = min(job.max_delay_s, job.delay_s * 2**job.attempts) if counts else 0.0
        with self._writing() as db:
            db.execute(
                "UPDATE jobs SET status = 'QUEUED', status_at = ?, due_at = ?, attempts = ? WHERE id = ?",
                (self._clock(), self._clock() + pause_s, job.attempts + counts, job.id),
            )

    def next_delivery(self, under_way: Collection[str] = ()) -> Job | None:
        """Return a job that ended and whose notice is due, and is not `under_way` already."""
        others = ", ".join("?" * len(under_way))
        with self._reading() as db:
            found = db.execute(
                f"SELECT {', '.join(_COLUMNS)} FROM jobs WHERE delivery = 'PENDING' AND due_at <= ? "
                f"AND status IN ('SUCCEEDED', 'FAILED') AND id NOT IN ({others}) ORDER BY due_at LIMIT 1",
                (self._clock(), *under_way),
            ).fetchone()
        return None if found is None else _job(found)

    def delivered(self, job: Job, *, again_in_s: float | None, is_there: bool) -> None:
        """Write down how a delivery went: it is there, or it is tried again, or given up (`again_in_s` None)."""
        with self._writing() as db:
            if not is_there and again_in_s is not None:
                db.execute(
                    "UPDATE jobs SET deliveries = deliveries + 1, due_at = ? WHERE id = ?",
                    (self._clock() + again_in_s, job.id),
                )
                return
            delivery = Delivery.SUCCEEDED if is_there else Delivery.FAILED
            status = job.status if is_there else Status.WEBHOOK_FAILED
            db.execute(
                "UPDATE jobs SET delivery = ?, status = ?, deliveries = deliveries + 1, result = NULL WHERE id = ?",
                (delivery, status, job.id),
            )

    def find(self, identity: str, owner: str) -> Job | None:
        """Return a job to the one who asked for it; None to all others."""
        with self._reading() as db:
            found = db.execute(
                f"SELECT {', '.join(_COLUMNS)} FROM jobs WHERE id = ? AND owner = ?", (identity, owner)
            ).fetchone()
        return None if found is None else _job(found)

    def cancel(self, identity: str, owner: str) -> bool:
        """Cancel a job that is still queued. Return whether it was."""
        with self._writing() as db:
            done = db.execute(
                "UPDATE jobs SET status = 'CANCELED', status_at = ?, input = '', "
                "delivery = CASE delivery WHEN 'PENDING' THEN 'CANCELED' ELSE delivery END "
                "WHERE id = ? AND owner = ? AND status = 'QUEUED'",
                (self._clock(), identity, owner),
            )
            return done.rowcount == 1

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection. Raises Overloaded where the disk fails."""
        with self._lock:
            try:
                yield self._db
            except sqlite3.OperationalError as error:
                raise Overloaded(f"the queue cannot be used: {error}", retry_after_s=FULL_S) from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection in a transaction; what it did is on disk when the block ends."""
        with self._reading() as db:
            try:
                db.execute("BEGIN IMMEDIATE")
                yield db
                db.execute("COMMIT")
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")


def _row(job: Job) -> tuple[Any, ...]:
    values = {name: getattr(job, name) for name in _COLUMNS}
    return tuple((values | {"errors": json.dumps([*map(dict, job.errors)])}).values())


def _job(row: tuple[Any, ...]) -> Job:
    values = dict(zip(_COLUMNS, row, strict=True))
    values |= {
        "status": Status(values["status"]),
        "delivery": Delivery(values["delivery"]),
        "errors": tuple(json.loads(values["errors"])),
        "input": bytes(values["input"]) if isinstance(values["input"], bytes) else b"",
    }
    return Job(**values)
