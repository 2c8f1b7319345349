"""A worker's login at an API server: made when it is needed, again when the server has forgotten it, for as long as it
takes. Knows no jobs.
"""

from __future__ import annotations

import asyncio
import logging

from camelid.errors import Unauthorized

from .connection import Broken, Connection
from .wire import About, Identity, LoggedIn, Refused, login, read_login

FIRST_WAIT_S, MOST_WAIT_S = 1.0, 30.0  # between tries to reach a server

_log = logging.getLogger(__name__)


class Patience:
    """Waits that grow: 1, 2, 4 … 30 seconds."""

    def __init__(self, first_s: float = FIRST_WAIT_S) -> None:
        self._first_s = self._next_s = first_s

    async def wait(self) -> None:
        """Sleep, longer than the last time."""
        now_s, self._next_s = self._next_s, min(2 * self._next_s, MOST_WAIT_S)
        await asyncio.sleep(now_s)

    def reset(self) -> None:
        """Begin with the shortest wait again."""
        self._next_s = self._first_s


class Session:
    """The connection to one server, and whether the worker is logged in there."""

    def __init__(self, connection: Connection, identity: Identity, about: About, first_wait_s: float) -> None:
        self.connection, self.identity, self.first_wait_s = connection, identity, first_wait_s
        self._about = about
        self._request_timeout_s: float | None = None
        self._is_accepted = False  # the key was good once, so a refusal is the server's trouble and will pass
        self._one_at_a_time = asyncio.Lock()

    def forget(self) -> None:
        """Note that the server does not know the worker."""
        self._request_timeout_s = None

    async def log_in(self) -> float:
        """Return how many seconds the server holds a request for jobs, after a login if there was none.

        Raises Unauthorized where the key was never accepted.
        """
        async with self._one_at_a_time:
            patience = Patience(self.first_wait_s)
            while self._request_timeout_s is None:
                read = await self._try()
                if isinstance(read, LoggedIn):
                    _log.info("logged in as %s for jobs of type %s", self.identity.name, self.identity.job_type)
                    self._request_timeout_s, self._is_accepted = read.request_timeout_s, True
                    break
                if not (read.is_stranger or self._is_accepted):
                    raise Unauthorized(read.reason, hint="check --job-type and the key: --worker-key, or API_AUTH_KEY")
                _log.warning("no login yet: %s", read.reason)
                await patience.wait()
            return self._request_timeout_s

    async def _try(self) -> LoggedIn | Refused:
        answer = await self.connection.tell("/worker_login", login(self.identity, self._about))
        if not isinstance(answer, Broken):
            return read_login(answer)
        kind = f": is there an endpoint for jobs of type {self.identity.job_type}?" if answer.has_failed else ""
        return Refused(answer.reason + kind, is_stranger=True)
