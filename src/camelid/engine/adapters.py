"""The adapters that an engine's requests may name: taken in beside the steps, dropped when the last request is done.

A key stands for what an adapter's files hold, so that another file under the same name is another adapter. Apart from
the engine because only this knows that reading one takes time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count

from camelid.errors import CamelidError, InvalidRequest
from camelid.models.low_rank import Adapters, PlacedAdapter

OpenAdapter = Callable[[str, str], PlacedAdapter]  # from key and path; raises what reading and placing raise


class EngineAdapters:
    """The adapters of one model. `placed` is the model's own table of them."""

    def __init__(self, placed: Adapters, open_adapter: OpenAdapter) -> None:
        self._placed = placed
        self._open = open_adapter
        self._numbers: dict[str, int] = {}
        self._retired: dict[str, int] = {}  # still used
        self._opening: dict[str, Future[PlacedAdapter]] = {}
        self._settled: list[tuple[str, CamelidError | None]] = []  # not told yet
        self._next = count(1)
        self._thread: ThreadPoolExecutor | None = None

    def take(self, key: str, path: str) -> None:
        """Take an adapter in now. Raises what opening it raises."""
        if key not in self._numbers:
            self._know(key, self._open(key, path))

    def begin(self, key: str, path: str) -> None:
        """Begin to take an adapter in; `finished` tells when it is there."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="camelid adapters")
        if key not in self._opening:
            self._opening[key] = self._thread.submit(self._open, key, path)

    @property
    def is_opening(self) -> bool:
        """Whether an adapter is being taken in."""
        return bool(self._opening)

    @property
    def is_dropping(self) -> bool:
        """Whether a forgotten adapter waits for the last request that uses it."""
        return bool(self._retired)

    def finished(self) -> list[tuple[str, CamelidError | None]]:
        """Return the keys that are there since this was asked last, or what went wrong with them."""
        self._settle()
        found, self._settled = self._settled, []
        return found

    def _settle(self) -> None:
        for key in [key for key, future in self._opening.items() if future.done()]:
            future = self._opening.pop(key)
            error = future.exception()
            if error is None:
                self._know(key, future.result())
            elif not isinstance(error, CamelidError):
                raise error
            self._settled.append((key, error))

    def wait_for(self, key: str) -> Future[None] | None:
        """Return what a request that names an adapter has to wait for, None if there is nothing."""
        opening = self._opening.get(key)
        if opening is None:
            return None
        waiting: Future[None] = Future()
        opening.add_done_callback(lambda done: _pass_on(done, waiting))
        return waiting

    def number(self, key: str) -> int:
        """Return the number of an adapter, 0 for none. Raises InvalidRequest for one that is not here."""
        if not key:
            return 0
        self._settle()
        if key not in self._numbers:
            raise InvalidRequest("the adapter is not loaded", field="model", hint="load it again")
        return self._numbers[key]

    def forget(self, key: str, used: Collection[str]) -> None:
        """Drop an adapter, now or, if requests still use it (`used` are their keys), with the last of them."""
        number = self._numbers.pop(key, None)
        if number is not None:
            self._retired[key] = number
            self.drop_unused(used)

    def drop_unused(self, used: Collection[str]) -> None:
        """Drop the forgotten adapters that no request uses any more."""
        for key in [key for key in self._retired if key not in used]:
            self._placed.placed.pop(self._retired.pop(key))

    def close(self) -> None:
        """End the thread."""
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)

    def _know(self, key: str, adapter: PlacedAdapter) -> None:
        if key in self._retired:  # asked for again while requests still use it
            self._numbers[key] = self._retired.pop(key)
        if key not in self._numbers:
            self._numbers[key] = next(self._next)
            self._placed.placed[self._numbers[key]] = adapter


def _pass_on(done: Future[PlacedAdapter], waiting: Future[None]) -> None:
    error = done.exception() if not done.cancelled() else None
    if error is None:
        waiting.set_result(None)
    else:
        waiting.set_exception(error)
