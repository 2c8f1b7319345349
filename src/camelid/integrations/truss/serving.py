"""A user's Truss folder behind HTTP: what `camelid serve --truss FOLDER` runs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

from camelid import __version__
from camelid.server.app import server_config
from camelid.server.auth import check_exposure
from camelid.server.leaving import LeavingServer
from camelid.server.lifecycle import Lifecycle
from camelid.server.listen import listen, url_of
from camelid.server.running import run
from camelid.settings import ServerSettings

from .folder import read_folder
from .front import FOLDER_LIMITS, Front
from .host import Host


def serve(
    path: Path,
    settings: ServerSettings,
    announce: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
) -> None:
    """Load the class of the folder and serve it until SIGTERM or Ctrl-C; then finish what runs.

    Raises NotFound and InvalidRequest for a folder that cannot be served, Unavailable for a class that cannot be
    loaded.
    """
    check_exposure(settings)
    folder = read_folder(path)
    host, lifecycle, limits = Host(folder.path, settings.drain_seconds), Lifecycle(), FOLDER_LIMITS
    app = Front(host, lifecycle, limits).application(settings)
    server = LeavingServer(server_config(app, limits), lifecycle, settings.drain_seconds, limits)
    watching: list[asyncio.Task[None]] = []

    with listen(settings.host, settings.port) as listener:

        def begin(started: None) -> None:
            lifecycle.is_started = True
            watching.append(asyncio.ensure_future(host.watch()))
            announce(f"Camelid {__version__} serves {folder.path} on {url_of(listener)}\n  stop   Ctrl-C")

        async def close() -> None:
            for task in watching:
                task.cancel()
            await host.close()

        run(server, listener, host.start, begin, close)
