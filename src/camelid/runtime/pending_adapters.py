"""The adapters that an engine has been given, or is being given: what the next one must be given when it dies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from camelid.errors import CamelidError

from .frames import Adapt, Adapted, Command, ForgetAdapter


class PendingAdapters:
    """The adapters of one engine, by key. `send` puts a command to it."""

    def __init__(self, send: Callable[[Command], None], known: Iterable[Adapt] = ()) -> None:
        self._send = send
        self._known = {adapt.key: adapt for adapt in known}
        self._pending: dict[str, tuple[Adapt, asyncio.Future[None]]] = {}

    @property
    def all(self) -> list[Adapt]:
        """Those that the engine has, and those that it is taking in."""
        return [*self._known.values(), *(adapt for adapt, _ in self._pending.values())]

    async def adapt(self, adapt: Adapt) -> None:
        """Have the engine take an adapter in, and wait until it has (see `EnginePort.adapt`)."""
        if adapt.key in self._known:
            return
        if adapt.key not in self._pending:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            done.add_done_callback(_see)
            self._pending[adapt.key] = (adapt, done)
            self._send(adapt)
        await asyncio.shield(self._pending[adapt.key][1])

    def forget(self, key: str) -> None:
        """Have the engine drop an adapter."""
        if self._known.pop(key, None) is not None:
            self._send(ForgetAdapter(key))

    def take(self, report: Adapted) -> None:
        """Take in that an adapter is there, or why it is not; one that a new engine was given again is known."""
        adapt, done = self._pending.pop(report.key, (None, None))
        if report.failure is not None:
            self._known.pop(report.key, None)
        elif adapt is not None:
            self._known[report.key] = adapt
        if done is not None and not done.done():
            if report.failure is None:
                done.set_result(None)
            else:
                done.set_exception(report.failure.error())

    def fail_all(self, error: CamelidError) -> None:
        """End the wait for those that are being taken in."""
        for _, done in self._pending.values():
            if not done.done():
                done.set_exception(error)
        self._pending.clear()


def _see(done: asyncio.Future[None]) -> None:
    """Look at what went wrong: who waited for it may have left."""
    if not done.cancelled():
        done.exception()
