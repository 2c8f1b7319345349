"""The runtime over the bundled model: the same answers in this process and in a supervised one."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from camelid.errors import (
    CamelidError,
    FormatError,
    InvalidRequest,
    InvalidSetting,
    ModelError,
    NotFound,
    OutOfMemory,
    Unavailable,
)
from camelid.runtime.collected import Answer, Collector
from camelid.runtime.runtime import Runtime
from camelid.runtime.supervisor import SupervisedEngine
from camelid.settings import ModelSettings
from camelid.store.local import find
from camelid.types import (
    ChatRequest,
    CompletionRequest,
    Event,
    Generation,
    Grammar,
    GrammarKind,
    Message,
    Sampling,
    Started,
    Stopping,
    Text,
)

SETTINGS = ModelSettings(threads=1, max_sequences=4, max_waiting=8)
ENDLESS = Generation(stopping=Stopping(ignore_eos=True))
_T = TypeVar("_T")
FORM = Grammar(GrammarKind.REGEX, "([a-z]{1,9} )*[a-z]{0,9}")
either_way = pytest.mark.parametrize("in_process", [True, False], ids=["thread", "process"])


def run(coroutine: Coroutine[Any, Any, _T]) -> _T:
    return asyncio.run(asyncio.wait_for(coroutine, 120))


@asynccontextmanager
async def cria(in_process: bool, settings: ModelSettings = SETTINGS) -> AsyncIterator[Runtime]:
    runtime = Runtime(settings, in_process=in_process)
    try:
        await runtime.load("cria")
        yield runtime
    finally:
        await runtime.close()


def chat(generation: Generation, content: str = "What is 17 + 25?") -> ChatRequest:
    return ChatRequest("cria", (Message("user", content),), generation=generation)


async def whole(events: AsyncIterator[Event]) -> Answer:
    collector = Collector()
    async for event in events:
        collector.feed(event)
    return collector.answer()


def seeded(seed: int, num_choices: int = 1) -> Generation:
    return Generation(Sampling(seed=seed), Stopping(max_tokens=24, ignore_eos=True), num_choices)


@either_way
def test_a_prompts_tokens_have_the_scores_that_they_had_when_they_were_written(in_process: bool) -> None:
    async def scenario() -> None:
        async with cria(in_process) as runtime:
            begin = (1, 40, 41, 42)
            writing = Generation(Sampling(seed=3), Stopping(max_tokens=90, ignore_eos=True), top_logprobs=2)
            written = (await whole(runtime.complete(CompletionRequest("cria", begin, writing)))).choices[0].scores
            prompt = (*begin, *(score.id for score in written))
            reading = Generation(Sampling(), Stopping(max_tokens=1), num_choices=2, top_logprobs=2)
            for _ in range(2):  # the second time the prompt's pages could be found
                events = runtime.complete(CompletionRequest("cria", prompt, reading, echo=True))
                [started] = [event async for event in events if isinstance(event, Started)]
                assert started.echo is not None
                assert started.echo.scores[len(begin) - 1 :] == written
                assert len(started.echo.scores) == len(prompt) - 1

    run(scenario())


def test_the_same_request_gives_the_same_bytes_in_a_thread_and_in_a_process_alone_and_among_others() -> None:
    asked = [chat(seeded(seed, 1 + seed % 2)) for seed in range(6)]
    asked += [chat(Generation(Sampling(seed=7), Stopping(max_tokens=24), 2, grammar=FORM))]

    async def answers(in_process: bool, *, together: bool) -> list[Answer]:
        async with cria(in_process) as runtime:
            if together:
                return await asyncio.gather(*(whole(runtime.chat(one)) for one in asked))
            return [await whole(runtime.chat(one)) for one in asked]

    def texts(of: list[Answer]) -> list[list[str]]:
        return [[choice.text for choice in answer.choices] for answer in of]

    alone = texts(run(answers(True, together=False)))
    assert texts(run(answers(False, together=True))) == alone
    assert [len(choices) for choices in alone] == [1, 2, 1, 2, 1, 2, 2]
    assert all(re.fullmatch(FORM.source, text) for text in alone[-1])


@either_way
def test_leaving_an_answer_frees_its_pages(in_process: bool) -> None:
    async def go() -> None:
        async with cria(in_process) as runtime:
            events = runtime.chat(chat(ENDLESS))
            async for event in events:
                if isinstance(event, Text):
                    break
            assert runtime.health().num_in_flight == 1
            steps = runtime.stats()["steps"]
            await events.aclose()
            while runtime.stats()["sequences_running"]:
                await asyncio.sleep(0.001)
            assert runtime.stats()["pages_held"] == 0
            assert runtime.stats()["steps"] < steps + 100  # of more than 2000 that it would have taken
            assert runtime.health().num_in_flight == 0

    run(go())


@either_way
def test_a_drained_runtime_finishes_what_runs_and_takes_nothing_new(in_process: bool) -> None:
    async def go() -> None:
        async with cria(in_process) as runtime:
            running = asyncio.create_task(whole(runtime.chat(chat(seeded(1)))))
            while not runtime.health().num_in_flight:
                await asyncio.sleep(0.001)
            assert await runtime.drain(60)
            assert (await running).usage.completion_tokens == 24
            assert runtime.health().is_draining
            with pytest.raises(Unavailable):
                await whole(runtime.chat(chat(seeded(1))))

    run(go())


def test_draining_gives_up_when_its_time_is_over() -> None:
    async def go() -> None:
        async with cria(True) as runtime:
            events = runtime.chat(chat(ENDLESS))
            await anext(events)
            assert not await runtime.drain(0.01)
            await events.aclose()

    run(go())


@either_way
def test_unloading_ends_open_answers_and_frees_the_name(in_process: bool) -> None:
    async def go() -> None:
        async with cria(in_process) as runtime:
            events = runtime.chat(chat(ENDLESS))
            await anext(events)
            await runtime.unload("cria")
            with pytest.raises(Unavailable):
                await whole(events)
            assert runtime.loaded() == []
            with pytest.raises(NotFound, match="the model 'cria' is not loaded"):
                await whole(runtime.chat(chat(seeded(1))))

    run(go())


@either_way
def test_a_loaded_model_is_described_and_loading_it_again_is_free(in_process: bool) -> None:
    async def go() -> None:
        async with cria(in_process) as runtime:
            assert await runtime.load("cria") is runtime.get("cria")
            (status,) = runtime.loaded()
            assert (status.name, status.architecture, status.context_length) == ("cria", "llama", 2048)
            assert status.backend.startswith("cpu (")
            assert status.memory_bytes > 4 * 2048 * 5  # at least weights and one page
            health = runtime.health()
            assert (health.is_started, health.is_fresh, health.is_overloaded, health.num_restarts) == (
                True,
                True,
                False,
                0,
            )

    run(go())


def test_a_model_is_called_by_its_path_or_by_its_own_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.gguf"
    path.symlink_to(find("cria").weights)

    async def go() -> None:
        runtime = Runtime(SETTINGS, in_process=True)
        await runtime.load(str(path))
        for name in (str(path), "mine"):
            request = CompletionRequest(name, "1, 2,", Generation(stopping=Stopping(max_tokens=2, ignore_eos=True)))
            assert (await whole(runtime.complete(request))).usage.completion_tokens == 2
        await runtime.close()

    run(go())


def test_two_models_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.gguf").symlink_to(find("cria").weights)

    async def go() -> None:
        runtime = Runtime(SETTINGS, in_process=True)
        await runtime.load(str(tmp_path / "a" / "mine.gguf"))
        with pytest.raises(InvalidRequest, match="a model called mine is loaded already"):
            await runtime.load(str(tmp_path / "b" / "mine.gguf"))
        assert len(runtime.loaded()) == 1
        await runtime.close()

    run(go())


def _cut(path: Path) -> str:
    file = path / "cut.gguf"
    file.write_bytes(find("cria").weights.read_bytes()[:100_000])
    return str(file)


@either_way
@pytest.mark.parametrize(
    ("name", "settings", "error"),
    [
        ("nothing", ModelSettings(), NotFound),
        ("cut", ModelSettings(), FormatError),
        ("cria", ModelSettings(context_length=10**6), InvalidSetting),
        ("cria", ModelSettings(cpu_isa="abacus"), InvalidSetting),
        ("cria", ModelSettings(cache_memory=2**10), OutOfMemory),
    ],
)
def test_what_cannot_be_loaded_says_why_and_leaves_nothing_behind(
    in_process: bool, name: str, settings: ModelSettings, error: type[CamelidError], tmp_path: Path
) -> None:
    async def go() -> None:
        runtime = Runtime(settings, in_process=in_process)
        with pytest.raises(error):
            await runtime.load(_cut(tmp_path) if name == "cut" else name)
        assert runtime.loaded() == []
        await runtime.close()

    run(go())


def test_an_engine_that_dies_is_not_followed_by_one_on_other_weights(tmp_path: Path) -> None:
    """It would go on with the answers of another model."""
    path, other = tmp_path / "mine.gguf", tmp_path / "other"
    for file in (path, other):
        file.write_bytes(find("cria").weights.read_bytes())

    async def go() -> None:
        runtime = Runtime(SETTINGS)
        engine = (await runtime.load(str(path))).engine
        assert isinstance(engine, SupervisedEngine)
        events = runtime.complete(CompletionRequest("mine", "1, 2,", ENDLESS))
        await anext(events)
        other.replace(path)
        os.kill(engine.pid or 0, signal.SIGKILL)
        with pytest.raises(ModelError, match="was changed while it was used"):
            await whole(events)
        await runtime.close()

    run(go())
