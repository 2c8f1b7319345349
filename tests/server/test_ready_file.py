"""The file that tells probes which can only run a command whether requests are welcome."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from camelid.server import ready_file
from camelid.server.ready_file import keep_ready_file


@pytest.mark.asyncio
async def test_the_file_is_there_exactly_while_requests_are_welcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ready_file, "EVERY_S", 0.01)
    path, ready = tmp_path / "ready", asyncio.Event()
    path.touch()  # a killed server left it

    async def until(is_there: bool) -> None:
        async with asyncio.timeout(10):
            while path.exists() is not is_there:
                await asyncio.sleep(0.005)

    keeping = asyncio.create_task(keep_ready_file(path, ready.is_set))
    await until(False)
    ready.set()
    await until(True)
    ready.clear()
    await until(False)
    ready.set()
    await until(True)
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    assert not path.exists()
