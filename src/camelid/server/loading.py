"""Gets the default model while the server already listens: fetches it where that is needed, then loads it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable

from .contract import Loaded, ServedRuntime


async def fetch_and_load(runtime: ServedRuntime, model: str, fetch: Callable[[], object]) -> Loaded:
    """Return the loaded model. `fetch` is called first, in a thread of its own. Raises what either raises.

    Cancelled, it does not wait for `fetch`, which may take an hour: it ends with the process, and goes on next time.
    """
    await _in_daemon_thread(fetch)
    return await runtime.load(model)


async def _in_daemon_thread(work: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle(error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def run() -> None:
        error: BaseException | None = None
        try:
            work()
        except BaseException as raised:  # noqa: BLE001 - whatever it is, it is raised where it is waited for
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, error)

    threading.Thread(target=run, daemon=True, name="fetch").start()
    await done
