"""Puts a worker together: the model is loaded, the server is asked, signals end it."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import signal
from pathlib import Path

from camelid.runtime.runtime import Runtime
from camelid.runtime.status import ModelStatus
from camelid.settings import WorkerSettings

from .connection import Connection
from .session import FIRST_WAIT_S, Session
from .unfinished import Unfinished
from .wire import About, Identity
from .worker import Served, Worker

_log = logging.getLogger(__name__)


async def work(runtime: Runtime, model: str, settings: WorkerSettings, most_jobs: int) -> None:
    """Answer the jobs of an API server with a model until SIGTERM or Ctrl-C; a second one skips the waiting.

    Raises what loading raises, InvalidSetting, and Unauthorized when the server does not accept the key.
    """
    connection = Connection(settings.api_server)
    if connection.is_open_to_readers:
        _log.warning("keys and answers go to %s without encryption; https:// is safer", settings.api_server)
    identity = Identity(_name(settings.worker_id), settings.job_type, settings.worker_key)
    unfinished = Unfinished(_state_folder() / f"{settings.job_type}-{settings.worker_id}".replace("/", "_"))
    try:
        with unfinished.locked():
            status = (await runtime.load(model)).status()
            session = Session(connection, identity, _about(status, most_jobs), FIRST_WAIT_S)
            served = Served(runtime, status.name, status.context_length, most_jobs)
            worker = Worker(session, served, unfinished, drain_s=settings.drain_seconds)
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, worker.leave)
            await worker.run()
    finally:
        await connection.close()
        await runtime.close()


def _name(worker_id: str) -> str:
    """Return a name that no other worker of the server has, in the form that AIME's own workers use."""
    return f"{platform.node()}#{worker_id}_1xCamelid"


def _about(status: ModelStatus, most_jobs: int) -> About:
    size = f"{status.num_parameters / 1e9:.3g}B"
    num_gpus = int(status.backend.startswith("gpu"))
    return About(status.name, status.architecture, size, status.backend, num_gpus, most_jobs)


def _state_folder() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "camelid" / "aime"
