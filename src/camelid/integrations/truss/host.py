"""The processes of a user's class: one that answers, its successor when it ends or when its files change.

A crash costs the calls that were running in it, never the server. A change is loaded beside the running model, and
takes over when it is ready; what runs then is finished by the old one. While both are there, both use memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import tempfile
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import httpx2

from camelid.errors import Unavailable

from .folder import Stamp, TrussFolder, read_folder

WATCH_S = 0.5
POLL_S = 0.02
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 30.0  # before a class that ended is started again
STEADY_S = 60.0  # who lived so long and ended is started again at once
KILL_S = 5.0
_logger = logging.getLogger("camelid.truss")


class Child:
    """One process, and the connections to it."""

    def __init__(self, process: asyncio.subprocess.Process, socket: Path) -> None:
        self.process = process
        self.num_running = 0
        self.began_s = time.monotonic()
        self.idle = asyncio.Event()
        self.idle.set()
        transport = httpx2.AsyncHTTPTransport(uds=str(socket), limits=httpx2.Limits(max_connections=None))
        self.client = httpx2.AsyncClient(transport=transport, base_url="http://model", timeout=None, trust_env=False)

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        """Count one call for as long as the block runs."""
        self.num_running += 1
        self.idle.clear()
        try:
            yield
        finally:
            self.num_running -= 1
            if self.num_running == 0:
                self.idle.set()

    async def end(self, seconds: float) -> None:
        """Let running calls finish for as long as `seconds`, then end the process."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.idle.wait()
        with contextlib.suppress(ProcessLookupError):
            self.process.kill() if self.num_running else self.process.terminate()
        try:
            async with asyncio.timeout(KILL_S):
                await self.process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()
        await self.client.aclose()


class Host:
    """Keeps one process of a folder's class running."""

    def __init__(self, path: Path, drain_s: float) -> None:
        """`drain_s`: how long running calls may take when their process is to end."""
        self._path, self._drain_s = path, drain_s
        self._scratch = tempfile.TemporaryDirectory(prefix="camelid-")
        self._num_started = 0
        self._child: Child | None = None
        self._loaded: Stamp | None = None  # what the files were when they were last loaded, or tried to be
        self._minding: set[asyncio.Task[None]] = set()
        self._changing = asyncio.Lock()
        self.is_closed = False

    @property
    def child(self) -> Child | None:
        """The process that answers now; None while there is none."""
        return self._child

    async def start(self) -> None:
        """Start for the first time. Raises Unavailable when the class cannot be loaded, and what is wrong with its
        folder.
        """
        self._take_over(await self._started())

    async def reload(self) -> None:
        """Put a new process in the place of the present one, once it is ready. Raises as `start`; then all stays."""
        async with self._changing:
            new = await self._started()
            old = self._child
            self._take_over(new)
            if old is not None:
                self._mind(old.end(self._drain_s))

    async def watch(self) -> None:
        """Reload whenever a file of the folder is another than what was loaded, and no other changes while we look."""
        folder = read_folder(self._path)
        pending = self._loaded
        while True:
            await asyncio.sleep(WATCH_S)
            now = await asyncio.to_thread(folder.stamp)
            if now == self._loaded or now != pending:
                pending = now
                continue
            self._loaded = now  # also where it cannot be read: it is not tried again before it changes
            try:
                await self.reload()
                _logger.info("%s has changed and was loaded again", self._path)
            except Exception as error:  # noqa: BLE001 - what runs goes on, whatever the new files are like
                _logger.error("%s has changed and could not be loaded; what ran before goes on: %s", self._path, error)

    async def close(self) -> None:
        """End everything."""
        self.is_closed = True
        child, self._child = self._child, None
        for task in self._minding:
            task.cancel()
        await asyncio.gather(*self._minding, return_exceptions=True)
        if child is not None:
            await child.end(0.0)
        self._scratch.cleanup()

    def _take_over(self, child: Child) -> None:
        self._child = child
        self._mind(self._succeed(child))

    def _mind(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._minding.add(task)
        task.add_done_callback(self._minding.discard)

    async def _succeed(self, child: Child) -> None:
        """Wait for the end of a process, and start another if it was not to end."""
        status = await child.process.wait()
        if self.is_closed or self._child is not child:
            return
        self._child = None
        _logger.error("the process of %s ended with status %s; it is started again", self._path, status)
        await child.client.aclose()
        pause_s = 0.0 if time.monotonic() - child.began_s > STEADY_S else FIRST_PAUSE_S
        async with self._changing:
            while self._child is None:
                await asyncio.sleep(pause_s)
                try:
                    self._take_over(await self._started())
                except Exception as error:  # noqa: BLE001 - the user's class, and it is tried again
                    pause_s = min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S, pause_s * 2))
                    _logger.error("%s could not be started, again in %g s: %s", self._path, pause_s, error)

    async def _started(self) -> Child:
        """Return a process that has loaded the class and answers."""
        folder = await asyncio.to_thread(read_folder, self._path)
        self._loaded = await asyncio.to_thread(folder.stamp)  # before it is loaded: a change from now on is one
        self._num_started += 1
        socket = Path(self._scratch.name) / str(self._num_started)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "camelid.integrations.truss.child",
            str(folder.path),
            str(socket),
            stdin=asyncio.subprocess.PIPE,  # it ends when this does, however we end
            stdout=sys.stderr,
            env={**os.environ, **_import_path(), **folder.variables},
        )
        try:
            await _answers(process, socket, folder)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            raise
        return Child(process, socket)


async def _answers(process: asyncio.subprocess.Process, socket: Path, folder: TrussFolder) -> None:
    """Return when the process takes connections. Raises Unavailable when it ends before."""
    while True:
        if process.returncode is not None:
            raise Unavailable(
                f"{folder.model_file} could not be loaded: its process ended with status {process.returncode}",
                hint="what it raised is in the log",
            )
        try:
            _, writer = await asyncio.open_unix_connection(str(socket))
        except (FileNotFoundError, ConnectionRefusedError):
            await asyncio.sleep(POLL_S)
            continue
        writer.close()
        return


def _import_path() -> dict[str, str]:
    """Return what lets the new process find this package, where it runs from a source tree."""
    import camelid

    package = str(Path(camelid.__file__).parents[1])
    given = os.environ.get("PYTHONPATH", "")
    return {"PYTHONPATH": os.pathsep.join([package, *filter(None, [given])])}
