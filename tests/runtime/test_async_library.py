"""The library for programs that are asynchronous themselves."""

from __future__ import annotations

import asyncio

import camelid
from camelid.types import Event, Finished, Text


def test_answers_and_streams_run_in_the_callers_loop() -> None:
    async def ask() -> tuple[list[camelid.Answer], list[Event]]:
        async with await camelid.load_async("cria", threads=1) as model:
            answers = await asyncio.gather(
                *(model.chat("Hello!", seed=seed, max_tokens=6, ignore_eos=True) for seed in (1, 2))
            )
            stream = model.chat("Hello!", stream=True, seed=2, max_tokens=6, ignore_eos=True)
            events = [event async for event in stream]
            [result] = await model.text_completion(["1, 2"], 0.0, max_gen_len=3)
            assert result["generation"] == (await model.complete("1, 2", temperature=0, max_tokens=3)).text
            assert len((await model.embed(["x"]))[0]) > 0
            return answers, events

    answers, events = asyncio.run(ask())
    assert "".join(event.text for event in events if isinstance(event, Text)) == answers[1].text
    assert isinstance(events[-1], Finished)


def test_an_answer_that_is_cancelled_frees_its_place() -> None:
    async def ask() -> float:
        async with await camelid.load_async("cria", threads=1) as model:
            task = asyncio.ensure_future(model.chat("Hello!", ignore_eos=True))
            await model.complete("x", max_tokens=1)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await model.complete("x", max_tokens=1)
            return model.model.engine.stats()["sequences_running"]

    assert asyncio.run(ask()) <= 1
