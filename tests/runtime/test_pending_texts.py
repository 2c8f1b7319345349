"""Texts on their way to an engine and back: over deaths, refusals and clients that leave."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from camelid.engine.request import EmbedRequest
from camelid.errors import InvalidRequest, RequestsFailed, Unavailable
from camelid.runtime.frames import Load
from camelid.runtime.local_engine import LocalEngine
from camelid.runtime.supervisor import SupervisedEngine
from camelid.settings import ModelSettings
from tests.runtime.fake_engine import KILLS, REFUSED, FakeEngine

_T = TypeVar("_T")
COMMAND = (sys.executable, str(Path(__file__).with_name("fake_engine.py")))


def run(coroutine: Coroutine[Any, Any, _T]) -> _T:
    return asyncio.run(asyncio.wait_for(coroutine, 60))


@asynccontextmanager
async def supervised() -> AsyncIterator[SupervisedEngine]:
    engine = SupervisedEngine(Load("fake", ModelSettings(), 1, 1), command=COMMAND)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


def request(name: str, *ids: int) -> EmbedRequest:
    return EmbedRequest(name, (ids or (1, 2), (3,)))


def test_vectors_come_back_to_the_request_they_belong_to() -> None:
    async def go() -> None:
        async with supervised() as engine:
            found = await asyncio.gather(*(engine.embed(request(str(n), n)) for n in range(1, 9)))
            assert found == [(bytes([n]), b"\x03") for n in range(1, 9)]
            assert engine.health().num_open == 0

    run(go())


def test_texts_that_kill_the_engine_are_given_up_and_the_others_are_read() -> None:
    async def go() -> None:
        async with supervised() as engine:
            good, bad = await asyncio.gather(
                engine.embed(request("good")), engine.embed(request("bad", KILLS)), return_exceptions=True
            )
            assert good == (b"\x01\x02", b"\x03")
            assert isinstance(bad, RequestsFailed)
            assert await engine.embed(request("after")) == good

    run(go())


def test_refusals_and_the_end_of_the_engine_are_told() -> None:
    async def go() -> None:
        engine = LocalEngine(FakeEngine(), "fake", 9)
        with pytest.raises(InvalidRequest, match="the text is refused"):
            await engine.embed(request("a", REFUSED))
        assert await engine.embed(request("b")) == (b"\x01\x02", b"\x03")
        await engine.close()
        with pytest.raises(Unavailable, match="the engine has ended"):
            await engine.embed(request("c"))

    run(go())
