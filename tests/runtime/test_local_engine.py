"""The engine in a thread: the same answers, the same errors, nobody left waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from camelid.engine.request import GenerateRequest, Token
from camelid.errors import InvalidRequest, Overloaded, RequestsFailed, Unavailable
from camelid.runtime.local_engine import LocalEngine
from camelid.types import Sampling
from tests.runtime.fake_engine import FAILS, REFUSED, FakeEngine, undisturbed

_T = TypeVar("_T")


def run(coroutine: Coroutine[Any, Any, _T]) -> _T:
    return asyncio.run(asyncio.wait_for(coroutine, 30))


def request(name: str, *prompt: int, max_tokens: int = 20, num_choices: int = 1) -> GenerateRequest:
    return GenerateRequest(name, prompt or (5, 6), Sampling(seed=3), max_tokens, num_choices=num_choices)


async def answers(engine: LocalEngine, asked: GenerateRequest) -> list[list[int]]:
    got: list[list[int]] = [[] for _ in range(asked.num_choices)]
    async for tokens in engine.generate(asked):
        for token in tokens:
            got[token.choice].append(token.id)
    return got


def test_answers_come_through() -> None:
    async def go() -> None:
        engine = LocalEngine(FakeEngine(), "fake", 99)
        asked = [request(f"r{n}", n, num_choices=1 + n % 2) for n in range(5)]
        assert await asyncio.gather(*(answers(engine, one) for one in asked)) == [undisturbed(one) for one in asked]
        assert engine.health().is_fresh
        await engine.close()

    run(go())


def test_errors_reach_the_request_they_belong_to() -> None:
    async def go() -> None:
        engine = LocalEngine(FakeEngine(), "fake", 99)
        with pytest.raises(InvalidRequest, match="the prompt is refused"):
            await answers(engine, request("a", REFUSED))
        with pytest.raises(RequestsFailed, match="NaN"):
            await answers(engine, request("b", FAILS))
        await engine.close()

    run(go())


def test_one_request_more_than_may_be_open_is_refused() -> None:
    async def go() -> None:
        engine = LocalEngine(FakeEngine(step_s=0.01), "fake", 1)
        stream = engine.generate(request("a", max_tokens=10**6))
        await anext(stream)
        with pytest.raises(Overloaded):
            await answers(engine, request("b"))
        await stream.aclose()
        assert await answers(engine, request("c")) == undisturbed(request("c"))
        await engine.close()

    run(go())


def test_closing_ends_what_is_open_and_refuses_what_comes() -> None:
    async def go() -> None:
        engine = LocalEngine(FakeEngine(step_s=0.01), "fake", 9)
        stream = engine.generate(request("a", max_tokens=10**6))
        await anext(stream)
        await engine.close()
        with pytest.raises(Unavailable, match="the engine has ended"):
            async for _ in stream:
                pass
        with pytest.raises(Unavailable, match="the engine has ended"):
            await answers(engine, request("b"))

    run(go())


class BrokenEngine(FakeEngine):
    def step(self) -> list[Token]:
        raise ZeroDivisionError("a bug")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_engine_that_breaks_leaves_nobody_waiting() -> None:
    async def go() -> None:
        engine = LocalEngine(BrokenEngine(), "fake", 9)
        with pytest.raises(Unavailable, match="the engine has ended"):
            await answers(engine, request("a"))
        assert not engine.health().is_fresh
        await engine.close()

    run(go())


def test_a_choice_that_is_given_up_ends_and_the_others_go_on() -> None:
    async def go() -> None:
        engine = LocalEngine(FakeEngine(), "fake", 9)
        asked = request("a", num_choices=2, max_tokens=3000)
        got: list[list[int]] = [[], []]
        async for tokens in engine.generate(asked):
            for token in tokens:
                got[token.choice].append(token.id)
                if token.choice == 0 and token.index == 4:
                    engine.stop_choice("a", 0)
        first, second = undisturbed(asked)
        assert got[1] == second
        assert got[0] == first[: len(got[0])]
        assert 5 <= len(got[0]) < len(first)
        await engine.close()

    run(go())
