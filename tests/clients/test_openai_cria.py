"""The official `openai` client against `camelid serve cria`: command, runtime, engine process and model."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

COUNT: Any = [{"role": "user", "content": "What is 17 + 25?"}]
LONG: dict[str, Any] = {
    "model": "cria",
    "prompt": "Once upon a time",
    "seed": 5,
    "temperature": 1.8,
    "top_p": 1,
    "extra_body": {"ignore_eos": True},
}


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, int]]:
    """The address of a server of cria, and the id of its process."""
    command = [sys.executable, "-m", "camelid", "serve", "cria", "--port", "0", "--log-level", "warning"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "CAMELID_CONTEXT_LENGTH": "512"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stderr is not None
            found = re.search(r"listens on (http://127\.0\.0\.1:\d+)\n", process.stderr.readline())
            assert found
            yield f"{found[1]}/v1", process.pid
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.kill()


@pytest.fixture(scope="module")
def client(server: tuple[str, int]) -> Iterator[OpenAI]:
    with OpenAI(base_url=server[0], api_key="not needed", max_retries=0) as client:
        yield client


def streamed(client: OpenAI, **ask: Any) -> str:
    stream = client.completions.create(stream=True, **ask)
    return "".join(chunk.choices[0].text for chunk in stream)


def test_a_conversation_is_answered_and_counted(client: OpenAI) -> None:
    reply = client.chat.completions.create(model="cria", messages=COUNT, temperature=0, max_tokens=20)
    assert reply.choices[0].message.content
    assert reply.choices[0].finish_reason in ("stop", "length")
    assert reply.usage is not None
    assert reply.usage.prompt_tokens > 10
    assert 0 < reply.usage.completion_tokens <= 20


def test_a_stream_says_what_the_whole_reply_says(client: OpenAI) -> None:
    ask: dict[str, Any] = {"model": "cria", "messages": COUNT, "seed": 3, "max_tokens": 30}
    whole = client.chat.completions.create(**ask)
    chunks = list(client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert (chunks[-1].usage, whole.usage) != (None, None)
    assert chunks[-1].usage is not None
    assert whole.usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_the_same_seed_gives_the_same_text_and_another_seed_another(client: OpenAI) -> None:
    texts = [streamed(client, **LONG | {"seed": seed}, max_tokens=60) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_several_answers_differ_and_are_each_repeatable(client: OpenAI) -> None:
    replies = [client.completions.create(**LONG, n=3, max_tokens=40) for _ in range(2)]
    texts = [[choice.text for choice in reply.choices] for reply in replies]
    assert texts[0] == texts[1]
    assert len(set(texts[0])) == 3


def test_a_stop_string_ends_the_answer_and_is_not_part_of_it(client: OpenAI) -> None:
    plain = streamed(client, **LONG, max_tokens=60)
    stop = plain[len(plain) // 2 :][:3]
    reply = client.completions.create(**LONG, max_tokens=60, stop=[stop])
    assert reply.choices[0].text == plain[: plain.index(stop)]
    assert reply.choices[0].finish_reason == "stop"


def test_logprobs_belong_to_the_text(client: OpenAI) -> None:
    reply = client.chat.completions.create(
        model="cria", messages=COUNT, temperature=0, max_tokens=10, logprobs=True, top_logprobs=3
    )
    assert reply.choices[0].logprobs is not None
    tokens = reply.choices[0].logprobs.content or []
    assert "".join(token.token for token in tokens) == reply.choices[0].message.content
    for token in tokens:
        assert len(token.top_logprobs) == 3
        assert token.logprob == max(top.logprob for top in token.top_logprobs)  # temperature 0 takes the likeliest


def test_min_and_max_tokens_are_kept(client: OpenAI) -> None:
    reply = client.chat.completions.create(
        model="cria", messages=COUNT, max_tokens=25, extra_body={"min_tokens": 25}, temperature=0
    )
    assert reply.usage is not None
    assert (reply.usage.completion_tokens, reply.choices[0].finish_reason) == (25, "length")


def test_a_prompt_that_is_too_long_is_told_both_numbers(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=r"has \d+ tokens, and the context holds 512") as caught:
        client.completions.create(model="cria", prompt="word " * 3000)
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.body["limit"] == 512  # type: ignore[index]


def test_a_model_that_is_not_there_is_not_found(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["cria"]
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-4", messages=COUNT)
    assert caught.value.code == "model_not_found"


def test_a_hidden_tool_and_an_offered_one_are_both_accepted(client: OpenAI) -> None:
    tool: Any = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
    for choice in ("auto", "none"):
        reply = client.chat.completions.create(
            model="cria", messages=COUNT, tools=[tool], tool_choice=choice, max_tokens=30, temperature=0
        )
        assert reply.choices[0].finish_reason in ("stop", "length", "tool_calls")


def test_many_at_once_say_what_each_says_alone(server: tuple[str, int], client: OpenAI) -> None:
    alone = [streamed(client, **LONG | {"seed": seed}, max_tokens=30) for seed in range(4)]

    async def together() -> list[str]:
        async with AsyncOpenAI(base_url=server[0], api_key="-") as many:

            async def one(seed: int) -> str:
                stream = await many.completions.create(**LONG | {"seed": seed}, max_tokens=30, stream=True)
                return "".join([chunk.choices[0].text async for chunk in stream])

            return await asyncio.gather(*(one(number % 4) for number in range(24)))

    assert asyncio.run(together()) == alone * 6


def test_a_client_that_leaves_frees_the_engine(client: OpenAI) -> None:
    stream = client.completions.create(**LONG, max_tokens=500, stream=True)
    next(iter(stream))
    stream.close()
    while _metric(client, "num_requests_running") + _metric(client, "num_requests_in_flight"):
        pass
    assert _metric(client, "kv_cache_usage_perc") == 0


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the engine's process through /proc (Linux)")
def test_an_engine_that_is_killed_costs_a_pause_and_nothing_else(server: tuple[str, int], client: OpenAI) -> None:
    undisturbed = streamed(client, **LONG, max_tokens=200)
    stream = client.completions.create(**LONG, max_tokens=200, stream=True)
    texts = [next(stream).choices[0].text for _ in range(5)]
    os.kill(_engine_of(server[1]), signal.SIGKILL)
    texts += [chunk.choices[0].text for chunk in stream]
    assert "".join(texts) == undisturbed
    assert _metric(client, "engine_restarts_total") == 1


def _engine_of(pid: int) -> int:
    """The server's child that is an engine; another one renders templates."""
    files = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for file in files for child in file.read_text().split()]
    [engine] = [child for child in children if b"runtime.worker" in Path(f"/proc/{child}/cmdline").read_bytes()]
    return engine


def _metric(client: OpenAI, name: str) -> float:
    page = client.get("../metrics", cast_to=str)
    found = re.search(rf"^camelid_{name} (\S+)$", page, re.MULTILINE)
    assert found
    return float(found[1])


def test_a_prompt_alone_is_given_back_with_its_scores(client: OpenAI) -> None:
    prompt = "Once upon a time there was a llama, and né €."
    reply = client.completions.create(model="cria", prompt=prompt, max_tokens=0, echo=True, logprobs=2)
    [choice] = reply.choices
    assert (choice.text, choice.finish_reason) == (prompt, "length")
    assert choice.logprobs is not None
    scores = list(zip(choice.logprobs.token_logprobs or [], choice.logprobs.top_logprobs or [], strict=True))
    assert all(top and len(top) == 2 and logprob <= max(top.values()) for logprob, top in scores)
    assert reply.usage is not None
    assert (reply.usage.completion_tokens, reply.usage.prompt_tokens) == (0, len(scores) + 1)  # one begins the text
    twice = client.completions.create(model="cria", prompt=[prompt, prompt], max_tokens=3, echo=True, seed=1)
    assert [choice.text.startswith(prompt) for choice in twice.choices] == [True, True]


def test_the_best_of_several_answers_is_the_likeliest(client: OpenAI) -> None:
    ask = LONG | {"max_tokens": 12, "logprobs": 0}
    every = client.completions.create(**ask, n=4)
    best = client.completions.create(**ask, n=1, best_of=4)

    def mean(choice: Any) -> float:
        return float(sum(choice.logprobs.token_logprobs) / len(choice.logprobs.token_logprobs))

    assert best.choices[0].text == max(every.choices, key=mean).text
    assert best.usage == every.usage
