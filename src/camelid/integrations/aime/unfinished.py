"""Jobs that were taken and not delivered yet, on disk: a worker that was killed answers them when it starts again.

The API server never gives a job out twice, so without this its client would wait in vain. Files hold no keys. A disk
that does not take them costs this safety and nothing else.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from camelid.errors import InvalidSetting

from .jobs import Job

MOST_AGE_S = 3600.0  # an older job has lapsed at the server

_log = logging.getLogger(__name__)


class Unfinished:
    """The folder of one worker's jobs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only worker of this name on this machine while the block runs. Raises InvalidSetting."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            _log.warning("jobs are not kept, so a killed worker forgets them: %s", error)
            yield
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise InvalidSetting(
                "another worker of this name is running here", hint="give this one a --worker-id of its own"
            ) from error
        try:
            yield
        finally:
            os.close(lock)

    def keep(self, job: Job) -> None:
        """Write a job down."""
        file = self._file(job.id)
        part = file.with_suffix(".part")
        try:
            part.write_text(json.dumps({"job_id": job.id, "inputs": dict(job.inputs), "seed": job.seed}), "utf-8")
            part.replace(file)
        except OSError as error:
            _log.warning("job %s is not kept: %s", job.id, error)

    def forget(self, job_id: str) -> None:
        """Cross a job out: its result was delivered."""
        try:
            self._file(job_id).unlink(missing_ok=True)
        except OSError as error:
            _log.warning("job %s cannot be crossed out: %s", job_id, error)

    def left(self) -> list[Job]:
        """Return the jobs that an earlier worker left behind; what is too old is dropped."""
        files = sorted(self._folder.glob("*.job")) if self._folder.is_dir() else []
        return [job for file in files if (job := _read(file)) is not None]

    def _file(self, job_id: str) -> Path:
        return self._folder / f"{hashlib.sha256(job_id.encode()).hexdigest()[:32]}.job"


def _read(file: Path) -> Job | None:
    try:
        if time.time() - file.stat().st_mtime <= MOST_AGE_S:
            kept = json.loads(file.read_text("utf-8"))
            return Job(str(kept["job_id"]), dict(kept["inputs"]), int(kept["seed"]))
        file.unlink(missing_ok=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("%s is no job that can be answered: %s", file.name, error)
    return None
