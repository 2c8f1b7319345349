"""Gives a result to the API server, again and again if need be: a job has exactly one, and a client waits for it."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from .connection import Broken
from .session import Patience, Session
from .wire import read_result, result

MOST_S = 900.0  # the server keeps a result no longer than that itself

_log = logging.getLogger(__name__)


async def deliver(session: Session, job_id: str, outputs: Mapping[str, Any]) -> bool:
    """Deliver a result. Return whether the server has it, or does not want it."""
    body = result(session.identity, job_id, outputs)
    give_up = time.monotonic() + MOST_S
    patience = Patience(session.first_wait_s)
    was_lost = False
    while time.monotonic() < give_up:
        answer = await session.connection.tell("/worker_job_result", body)
        if isinstance(answer, Broken):
            if answer.has_failed and was_lost:
                return True  # a second result is answered so: the first one had arrived
            was_lost = True
            await patience.wait()
        elif (refused := read_result(answer)) is None:
            return True
        else:
            _log.warning("the result of job %s was refused: %s", job_id, refused.reason)
            session.forget()
            await patience.wait()
            await session.log_in()
    _log.error("the result of job %s could not be delivered", job_id)
    return False
