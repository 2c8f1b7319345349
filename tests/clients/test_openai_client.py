"""The official `openai` client, unchanged, against a real server over a scripted runtime."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from fake_runtime import FakeRuntime, Step, hello
from live import Live, live, openai_client
from openai import AsyncOpenAI, OpenAI

from camelid import errors
from camelid.errors import CamelidError
from camelid.settings import ServerSettings
from camelid.types import (
    Finished,
    FinishReason,
    Started,
    Text,
    TokenScore,
    ToolCall,
    ToolCalled,
    Usage,
)

HI: Any = [{"role": "user", "content": "hi"}]
WEATHER: Any = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


@asynccontextmanager
async def served(
    script: list[Step] | None = None, key: str | None = None
) -> AsyncIterator[tuple[AsyncOpenAI, FakeRuntime, Live]]:
    runtime = FakeRuntime(script=script)
    settings = ServerSettings(port=0, drain_seconds=0.0, api_key=(key,) if key else ())
    async with (
        live(runtime, settings) as server,
        openai_client(server.url, key or "not needed") as client,
    ):
        yield client, runtime, server


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 60))  # type: ignore[arg-type]


def test_a_reply_has_text_reason_and_usage() -> None:
    async def scenario() -> None:
        async with served() as (client, _, _):
            reply = await client.chat.completions.create(model="gpt-4", messages=HI)
            assert reply.choices[0].message.content == "Hello"
            assert reply.choices[0].finish_reason == "stop"
            assert reply.model == "gpt-4"
            assert reply.usage is not None
            assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens) == (7, 3, 10)
            assert reply.usage.prompt_tokens_details is not None
            assert reply.usage.prompt_tokens_details.cached_tokens == 4
            assert str(reply._request_id).startswith("req_")

    run(scenario)


def test_a_stream_has_one_id_a_role_text_reason_and_usage_at_the_end() -> None:
    async def scenario() -> None:
        async with served() as (client, _, _):
            stream = await client.chat.completions.create(
                model="tiny", messages=HI, stream=True, stream_options={"include_usage": True}
            )
            chunks = [chunk async for chunk in stream]
            assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
            deltas = [chunk.choices[0].delta for chunk in chunks[:-1]]
            assert [delta.role for delta in deltas] == ["assistant", None, None, None]
            assert [delta.content for delta in deltas] == ["", "Hel", "lo", None]
            assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None, None, None, "stop"]
            assert [chunk.usage and chunk.usage.total_tokens for chunk in chunks] == [None] * 4 + [10]
            assert chunks[-1].choices == []

    run(scenario)


def test_the_synchronous_client_streams_too() -> None:
    async def scenario() -> None:
        async with served() as (_, _, server):

            def read() -> str:
                with OpenAI(base_url=f"{server.url}/v1", api_key="-") as client:
                    stream = client.chat.completions.create(model="tiny", messages=HI, stream=True)
                    return "".join(chunk.choices[0].delta.content or "" for chunk in stream)

            assert await asyncio.to_thread(read) == "Hello"

    run(scenario)


def test_several_answers_keep_their_numbers() -> None:
    async def scenario() -> None:
        async with served(hello(3)) as (client, runtime, _):
            reply = await client.chat.completions.create(model="tiny", messages=HI, n=3)
            assert [(choice.index, choice.message.content) for choice in reply.choices] == [
                (index, "Hello") for index in range(3)
            ]
            stream = await client.chat.completions.create(model="tiny", messages=HI, n=3, stream=True)
            texts = ["", "", ""]
            async for chunk in stream:
                texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
            assert texts == ["Hello"] * 3
            assert [ask.generation.num_choices for ask in runtime.asked] == [3, 3]

    run(scenario)


def test_the_parameters_reach_the_runtime() -> None:
    async def scenario() -> None:
        async with served() as (client, runtime, _):
            await client.chat.completions.create(
                model="tiny",
                messages=HI,
                temperature=0.5,
                top_p=0.25,
                seed=7,
                stop=["\n"],
                max_completion_tokens=9,
                presence_penalty=1,
                frequency_penalty=-1,
                logit_bias={"5": 10},
                user="me",
                metadata={"a": "b"},
                store=False,
                extra_body={"top_k": 3, "min_p": 0.125, "repetition_penalty": 1.5, "min_tokens": 2, "ignore_eos": True},
            )
            generation = runtime.asked[0].generation
            sampling = generation.sampling
            assert (sampling.temperature, sampling.top_p, sampling.seed) == (0.5, 0.25, 7)
            assert (sampling.top_k, sampling.min_p, sampling.repetition_penalty) == (3, 0.125, 1.5)
            assert (sampling.presence_penalty, sampling.frequency_penalty, sampling.logit_bias) == (1, -1, {5: 10})
            stopping = generation.stopping
            assert (stopping.stop, stopping.max_tokens, stopping.min_tokens) == (("\n",), 9, 2)
            assert stopping.ignore_eos is True

    run(scenario)


def test_logprobs_come_as_the_client_knows_them() -> None:
    euro = TokenScore(5, "€".encode(), -0.5, (TokenScore(5, "€".encode(), -0.5), TokenScore(6, b"\xff", -2.0)))
    script: list[Step] = [Started(1), Text("€", scores=(euro,)), Finished(FinishReason.LENGTH, usage=Usage(1, 1))]

    async def scenario() -> None:
        async with served(script) as (client, runtime, _):
            reply = await client.chat.completions.create(model="tiny", messages=HI, logprobs=True, top_logprobs=2)
            assert runtime.asked[0].generation.top_logprobs == 2
            assert reply.choices[0].finish_reason == "length"
            assert reply.choices[0].logprobs is not None
            [token] = reply.choices[0].logprobs.content or []
            assert (token.token, token.logprob, token.bytes) == ("€", -0.5, [226, 130, 172])
            assert [(top.token, top.logprob, top.bytes) for top in token.top_logprobs] == [
                ("€", -0.5, [226, 130, 172]),
                ("\ufffd", -2.0, [255]),
            ]
            plain = await client.completions.create(model="tiny", prompt="x", logprobs=2)
            assert plain.choices[0].logprobs is not None
            assert plain.choices[0].logprobs.tokens == ["€"]
            assert plain.choices[0].logprobs.top_logprobs == [{"€": -0.5, "bytes:\\xff": -2.0}]
            assert plain.choices[0].logprobs.text_offset == [0]

    run(scenario)


def test_a_tool_is_called_and_its_result_comes_back() -> None:
    call = ToolCalled(ToolCall("call_1", "weather", '{"city": "Oslo"}'))
    script: list[Step] = [Started(9), call, Finished(FinishReason.TOOL_CALLS, usage=Usage(9, 5))]

    async def scenario() -> None:
        async with served(script) as (client, runtime, _):
            reply = await client.chat.completions.create(model="tiny", messages=HI, tools=[WEATHER])
            message = reply.choices[0].message
            assert (reply.choices[0].finish_reason, message.content) == ("tool_calls", None)
            [made] = message.tool_calls or []
            assert made.type == "function"
            assert (made.id, made.function.name, made.function.arguments) == ("call_1", "weather", '{"city": "Oslo"}')
            again = [*HI, message, {"role": "tool", "tool_call_id": made.id, "content": "rain"}]
            await client.chat.completions.create(model="tiny", messages=again, tools=[WEATHER])
            dumped = [*HI, message.model_dump(), {"role": "tool", "tool_call_id": made.id, "content": "rain"}]
            await client.chat.completions.create(model="tiny", messages=dumped, tools=[WEATHER])
            for ask in runtime.asked[1:]:
                assert [(item.role, item.content, item.name) for item in ask.messages] == [  # type: ignore[union-attr]
                    ("user", "hi", None),
                    ("assistant", "", None),
                    ("tool", "rain", "weather"),
                ]

    run(scenario)


def test_a_tool_call_in_a_stream_is_put_together_by_the_client() -> None:
    call = ToolCalled(ToolCall("call_1", "weather", '{"city": "Oslo"}'))
    script: list[Step] = [Started(9), call, Finished(FinishReason.TOOL_CALLS, usage=Usage(9, 5))]

    async def scenario() -> None:
        async with served(script) as (client, _, _):
            async with client.chat.completions.stream(model="tiny", messages=HI, tools=[WEATHER]) as stream:
                final = await stream.get_final_completion()
            [made] = final.choices[0].message.tool_calls or []
            assert (made.function.name, made.function.arguments) == ("weather", '{"city": "Oslo"}')

    run(scenario)


def test_plain_completion_takes_text_ids_and_lists() -> None:
    async def scenario() -> None:
        async with served() as (client, runtime, _):
            prompts: list[Any] = ["Once", [1, 2, 3], ["a", "b"]]
            replies = [await client.completions.create(model="tiny", prompt=prompt) for prompt in prompts]
            assert [[choice.text for choice in reply.choices] for reply in replies] == [
                ["Hello"],
                ["Hello"],
                ["Hello", "Hello"],
            ]
            assert [ask.prompt for ask in runtime.asked] == ["Once", (1, 2, 3), "a", "b"]  # type: ignore[union-attr]
            stream = await client.completions.create(model="tiny", prompt="Once", stream=True, echo=True)
            assert "".join([chunk.choices[0].text async for chunk in stream]) == "OnceHello"

    run(scenario)


def test_models_are_listed_and_found() -> None:
    async def scenario() -> None:
        async with served() as (client, _, _):
            assert [model.id async for model in client.models.list()] == ["tiny", "gpt-4"]
            assert (await client.models.retrieve("gpt-4")).owned_by == "camelid"
            with pytest.raises(openai.NotFoundError):
                await client.models.retrieve("no/such:model")

    run(scenario)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "kind", "code", "param"),
    [
        (errors.ContextOverflow(300, 128), openai.BadRequestError, "context_length_exceeded", "messages"),
        (errors.InvalidRequest("no", field="stop"), openai.BadRequestError, "invalid_value", "stop"),
        (errors.NotFound("no model"), openai.NotFoundError, "model_not_found", None),
        (errors.Overloaded("full", retry_after_s=3), openai.InternalServerError, "server_overloaded", None),
        (errors.Unavailable("gone"), openai.InternalServerError, "unavailable", None),
    ],
)
def test_errors_arrive_as_the_clients_own(
    error: CamelidError, kind: type[openai.APIStatusError], code: str, param: str | None, stream: bool
) -> None:
    async def scenario() -> None:
        async with served([error]) as (client, _, _):
            with pytest.raises(kind) as caught:
                await client.chat.completions.create(model="tiny", messages=HI, stream=stream)
            assert (caught.value.code, caught.value.param) == (code, param)
            assert error.message in caught.value.message

    run(scenario)


def test_a_wrong_field_is_named_by_the_clients_error() -> None:
    async def scenario() -> None:
        async with served() as (client, _, _):
            with pytest.raises(openai.BadRequestError, match=r"temperature must be 0–100, got -1\.0") as caught:
                await client.chat.completions.create(model="tiny", messages=HI, temperature=-1)
            assert (caught.value.param, caught.value.type) == ("temperature", "invalid_request_error")
            with pytest.raises(openai.BadRequestError, match="unknown field 'beams'"):
                await client.chat.completions.create(model="tiny", messages=HI, extra_body={"beams": 4})

    run(scenario)


def test_an_error_in_the_middle_of_a_stream_is_raised_by_the_client() -> None:
    async def scenario() -> None:
        script: list[Step] = [*hello()[:2], errors.Unavailable("the engine is gone")]
        async with served(script) as (client, _, _):
            stream = await client.chat.completions.create(model="tiny", messages=HI, stream=True)
            texts = [(await anext(stream)).choices[0].delta.content for _ in range(2)]
            assert texts == ["", "Hel"]
            with pytest.raises(openai.APIError, match="the engine is gone") as caught:
                await anext(stream)
            assert caught.value.code == "unavailable"

    run(scenario)


def test_a_key_is_needed_and_the_right_one_lets_in() -> None:
    async def scenario() -> None:
        async with served(key="secret") as (client, _, _):
            assert (await client.chat.completions.create(model="tiny", messages=HI)).choices
            with pytest.raises(openai.AuthenticationError):
                await client.with_options(api_key="wrong").chat.completions.create(model="tiny", messages=HI)

    run(scenario)


def test_a_body_of_ten_megabytes_is_refused_as_too_large() -> None:
    async def scenario() -> None:
        async with served() as (client, _, _):
            with pytest.raises(openai.APIStatusError) as caught:
                await client.completions.create(model="tiny", prompt="x" * 10_000_000)
            assert (caught.value.status_code, caught.value.code) == (413, "request_too_large")

    run(scenario)


def test_closing_a_stream_early_frees_the_request() -> None:
    async def scenario() -> None:
        async with served([*hello()[:2], asyncio.Event()]) as (client, runtime, _):
            stream = await client.chat.completions.create(model="tiny", messages=HI, stream=True)
            async for chunk in stream:
                if chunk.choices[0].delta.content:
                    break
            await stream.close()
            await runtime.closed.wait()
            assert (runtime.num_open, runtime.num_closed_early) == (0, 1)

    run(scenario)


def test_many_streams_at_once_each_get_their_own_answer() -> None:
    async def scenario() -> None:
        words: list[Step] = [Started(1), *(Text(f"{number} ") for number in range(20))]
        async with served([*words, Finished(FinishReason.STOP, usage=Usage(1, 20))]) as (client, runtime, _):

            async def one() -> str:
                stream = await client.chat.completions.create(model="tiny", messages=HI, stream=True)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

            answers = await asyncio.gather(*(one() for _ in range(64)))
            assert set(answers) == {"".join(f"{number} " for number in range(20))}
            assert (len(runtime.asked), runtime.num_open, runtime.num_closed_early) == (64, 0, 0)

    run(scenario)
