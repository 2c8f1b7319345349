"""A file that is there as long as requests are welcome: the readiness probe of places that can only run a command.

Knows nothing of what ready means; it asks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

EVERY_S = 0.5

_log = logging.getLogger("camelid.server")


async def keep_ready_file(path: Path, is_ready: Callable[[], bool]) -> None:
    """Keep the file at `path` in line with `is_ready` until cancelled; then it is gone."""
    try:
        path.unlink(missing_ok=True)  # of a server that was killed
        while True:
            if is_ready():
                path.touch()
            else:
                path.unlink(missing_ok=True)
            await asyncio.sleep(EVERY_S)
    except OSError as error:
        _log.error("the ready file cannot be kept: %s", error)
    finally:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            _log.error("the ready file cannot be removed: %s", error)
