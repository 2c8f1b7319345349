"""The Responses API through the official `openai` client, over a scripted runtime."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from fake_runtime import FakeRuntime, Step, hello
from live import USUAL, live, openai_client
from openai import AsyncOpenAI

from camelid import errors
from camelid.server.limits import Limits
from camelid.settings import ServerSettings
from camelid.types import (
    ChatRequest,
    Finished,
    FinishReason,
    Message,
    Reasoning,
    Started,
    Text,
    TokenScore,
    ToolCall,
    ToolCalled,
    Usage,
)

WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}
CALLS: list[Step] = [
    Started(9),
    Text("Let me see."),
    ToolCalled(ToolCall("call_1", "weather", '{"city": "Oslo"}')),
    ToolCalled(ToolCall("call_2", "weather", '{"city": "Rome"}'), index=1),
    Finished(FinishReason.TOOL_CALLS, usage=Usage(9, 5)),
]
THOUGHTS: list[Step] = [
    Started(2),
    Reasoning("Hm"),
    Reasoning("m"),
    Text("Yes\u2028."),
    Finished(FinishReason.STOP, usage=Usage(2, 3)),
]
CUT: list[Step] = [Started(2), Text("Once"), Finished(FinishReason.LENGTH, usage=Usage(2, 1))]
SCRIPTS = {"text": hello(), "calls": CALLS, "thoughts": THOUGHTS, "cut": CUT}


@asynccontextmanager
async def served(
    script: list[Step] | None = None, keys: tuple[str, ...] = (), limits: Limits = USUAL
) -> AsyncIterator[tuple[AsyncOpenAI, FakeRuntime]]:
    runtime = FakeRuntime(script=script)
    settings = ServerSettings(port=0, drain_seconds=0.0, api_key=keys)
    key = keys[0] if keys else "not needed"
    async with (
        live(runtime, settings, limits) as server,
        openai_client(server.url, key) as client,
    ):
        yield client, runtime


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 60))  # type: ignore[arg-type]


def messages_of(runtime: FakeRuntime, index: int = -1) -> tuple[Message, ...]:
    ask = runtime.asked[index]
    assert isinstance(ask, ChatRequest)
    return ask.messages


def test_a_response_has_text_status_usage_and_what_was_asked() -> None:
    async def scenario() -> None:
        async with served() as (client, runtime):
            reply = await client.responses.create(
                model="gpt-4", input="hi", instructions="Be brief.", temperature=0.5, max_output_tokens=30
            )
            assert (reply.output_text, reply.status, reply.model, reply.error) == ("Hello", "completed", "gpt-4", None)
            assert (reply.temperature, reply.top_p, reply.max_output_tokens) == (0.5, 1.0, 30)
            assert (reply.instructions, reply.metadata, reply.tools) == ("Be brief.", {}, [])
            assert reply.usage is not None
            assert (reply.usage.input_tokens, reply.usage.output_tokens, reply.usage.total_tokens) == (7, 3, 10)
            assert reply.usage.input_tokens_details.cached_tokens == 4
            assert messages_of(runtime) == (Message("system", "Be brief."), Message("user", "hi"))
            stopping = runtime.asked[0].generation.stopping
            assert stopping.max_tokens == 30

    run(scenario)


EVENTS = {
    "text": [
        *("response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"),
        *("response.output_text.delta", "response.output_text.delta", "response.output_text.done"),
        *("response.content_part.done", "response.output_item.done", "response.completed"),
    ],
    "calls": [
        *("response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"),
        *("response.output_text.delta", "response.output_text.done", "response.content_part.done"),
        "response.output_item.done",
        *("response.output_item.added", "response.function_call_arguments.delta"),
        *("response.function_call_arguments.done", "response.output_item.done"),
        *("response.output_item.added", "response.function_call_arguments.delta"),
        *("response.function_call_arguments.done", "response.output_item.done", "response.completed"),
    ],
    "thoughts": [
        *("response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"),
        *("response.reasoning_text.delta", "response.reasoning_text.delta", "response.reasoning_text.done"),
        *("response.content_part.done", "response.output_item.done"),
        *("response.output_item.added", "response.content_part.added", "response.output_text.delta"),
        *("response.output_text.done", "response.content_part.done", "response.output_item.done", "response.completed"),
    ],
    "cut": [
        *("response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"),
        *("response.output_text.delta", "response.output_text.done", "response.content_part.done"),
        *("response.output_item.done", "response.incomplete"),
    ],
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_stream_has_the_official_events_numbered_and_ends_with_the_whole_response(name: str) -> None:
    async def scenario() -> None:
        async with served(SCRIPTS[name]) as (client, _):
            whole = await client.responses.create(model="tiny", input="hi", tools=[WEATHER])
            stream = await client.responses.create(model="tiny", input="hi", tools=[WEATHER], stream=True)
            events: list[Any] = [event async for event in stream]
            assert [event.type for event in events] == EVENTS[name]
            assert [event.sequence_number for event in events] == list(range(len(events)))
            assert events[0].response.status == "in_progress"
            last = events[-1].response
            assert (last.status, last.output_text) == (whole.status, whole.output_text)
            shown = [item.to_dict() | {"id": None, "call_id": None} for item in last.output]
            assert shown == [item.to_dict() | {"id": None, "call_id": None} for item in whole.output]
            assert (await client.responses.retrieve(last.id)).to_dict() == last.to_dict()
            done = [event.item for event in events if event.type == "response.output_item.done"]
            assert [item.id for item in done] == [item.id for item in last.output]
            text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
            assert text == last.output_text

    run(scenario)


def test_the_clients_own_stream_helper_puts_a_response_together() -> None:
    async def scenario() -> None:
        async with served(CALLS) as (client, _):
            async with client.responses.stream(model="tiny", input="hi", tools=[WEATHER]) as stream:
                kinds = [event.type async for event in stream]
                final = await stream.get_final_response()
            assert kinds == EVENTS["calls"]
            assert [item.type for item in final.output] == ["message", "function_call", "function_call"]

    run(scenario)


def test_an_answer_that_was_cut_says_so() -> None:
    async def scenario() -> None:
        async with served(CUT) as (client, _):
            reply = await client.responses.create(model="tiny", input="hi", max_output_tokens=1)
            assert reply.status == "incomplete"
            assert reply.incomplete_details is not None
            assert reply.incomplete_details.reason == "max_output_tokens"
            [item] = reply.output
            assert (item.type, item.status) == ("message", "incomplete")

    run(scenario)


def test_a_conversation_goes_on_from_the_response_that_is_named() -> None:
    async def scenario() -> None:
        async with served() as (client, runtime):
            first = await client.responses.create(model="tiny", input="one", instructions="Speak Norse.")
            second = await client.responses.create(model="tiny", input="two", previous_response_id=first.id)
            assert second.previous_response_id == first.id
            turns = (Message("user", "one"), Message("assistant", "Hello"), Message("user", "two"))
            assert messages_of(runtime) == turns  # instructions are not carried over
            await client.responses.delete(first.id)
            stream = await client.responses.create(
                model="tiny", input="three", previous_response_id=second.id, instructions="Shout.", stream=True
            )
            async for _ in stream:
                pass
            assert messages_of(runtime) == (
                Message("system", "Shout."),
                *turns,
                Message("assistant", "Hello"),
                Message("user", "three"),
            )

    run(scenario)


def test_functions_are_called_and_their_results_come_back() -> None:
    async def scenario() -> None:
        async with served(CALLS) as (client, runtime):
            first = await client.responses.create(model="tiny", input="hi", tools=[WEATHER])
            calls: list[Any] = [item for item in first.output if item.type == "function_call"]
            assert [(call.name, call.arguments, call.status) for call in calls] == [
                ("weather", '{"city": "Oslo"}', "completed"),
                ("weather", '{"city": "Rome"}', "completed"),
            ]
            results: Any = [
                {"type": "function_call_output", "call_id": call.call_id, "output": f"rain {number}"}
                for number, call in enumerate(calls)
            ]
            await client.responses.create(model="tiny", input=results, tools=[WEATHER], previous_response_id=first.id)
            by_id = messages_of(runtime)
            whole: Any = [{"role": "user", "content": "hi"}, *(item.to_dict() for item in first.output), *results]
            await client.responses.create(model="tiny", input=whole, tools=[WEATHER])
            assert messages_of(runtime) == by_id
            assert [(turn.role, turn.content, turn.name, len(turn.tool_calls)) for turn in by_id] == [
                ("user", "hi", None, 0),
                ("assistant", "Let me see.", None, 2),
                ("tool", "rain 0", "weather", 0),
                ("tool", "rain 1", "weather", 0),
            ]

    run(scenario)


def test_one_call_at_a_time_if_asked() -> None:
    async def scenario() -> None:
        async with served(CALLS) as (client, _):
            reply = await client.responses.create(model="tiny", input="hi", tools=[WEATHER], parallel_tool_calls=False)
            assert [item.type for item in reply.output] == ["message", "function_call"]

    run(scenario)


def test_items_of_every_kind_become_turns() -> None:
    items: Any = [
        {"role": "system", "content": "S"},
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "D"}]},
        {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm"}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "c", "annotations": []}]},
        {"role": "user", "content": "d"},
    ]

    async def scenario() -> None:
        async with served() as (client, runtime):
            reply = await client.responses.create(model="tiny", input=items)
            assert [(turn.role, turn.content) for turn in messages_of(runtime)] == [
                ("system", "S"),
                ("system", "D"),
                ("user", "ab"),
                ("assistant", "c"),
                ("user", "d"),
            ]
            page = await client.responses.input_items.list(reply.id, limit=2, order="asc")
            assert [item.type async for item in page] == [*("message",) * 3, "reasoning", *("message",) * 2]
            assert [item.type for item in page.data] == ["message", "message"]
            newest = await client.responses.input_items.list(reply.id, limit=1)
            assert newest.data[0].to_dict()["content"] == [{"type": "input_text", "text": "d"}]

    run(scenario)


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_not_to_be_stored_is_not_there(stream: bool) -> None:
    async def scenario() -> None:
        async with served() as (client, _):
            reply: Any = await client.responses.create(model="tiny", input="hi", store=False, stream=stream)
            identity = [event async for event in reply][-1].response.id if stream else reply.id
            with pytest.raises(openai.NotFoundError) as caught:
                await client.responses.retrieve(identity)
            assert caught.value.code == "response_not_found"
            with pytest.raises(openai.BadRequestError, match="there is no response") as refused:
                await client.responses.create(model="tiny", input="hi", previous_response_id=identity)
            assert refused.value.param == "previous_response_id"

    run(scenario)


def test_a_deleted_response_is_gone_and_a_finished_one_cannot_be_cancelled() -> None:
    async def scenario() -> None:
        async with served() as (client, _):
            reply = await client.responses.create(model="tiny", input="hi")
            with pytest.raises(openai.BadRequestError, match="in the background"):
                await client.responses.cancel(reply.id)
            await client.responses.delete(reply.id)
            for ask in (client.responses.delete, client.responses.retrieve, client.responses.cancel):
                with pytest.raises(openai.NotFoundError):
                    await ask(reply.id)
            with pytest.raises(openai.NotFoundError):
                await client.responses.input_items.list(reply.id)

    run(scenario)


def test_the_oldest_response_makes_room_for_a_new_one() -> None:
    async def scenario() -> None:
        async with served(limits=Limits(stored_responses=2)) as (client, _):
            first, second, third = [await client.responses.create(model="tiny", input="hi") for _ in range(3)]
            with pytest.raises(openai.NotFoundError):
                await client.responses.retrieve(first.id)
            await client.responses.retrieve(second.id)  # asked for: it is not the oldest any more
            await client.responses.create(model="tiny", input="hi")
            with pytest.raises(openai.NotFoundError):
                await client.responses.retrieve(third.id)
            assert (await client.responses.retrieve(second.id)).id == second.id

    run(scenario)


def test_one_keys_responses_are_not_there_for_another_key() -> None:
    async def scenario() -> None:
        async with served(keys=("one", "two")) as (client, _):
            reply = await client.responses.create(model="tiny", input="hi")
            other = client.with_options(api_key="two")
            with pytest.raises(openai.NotFoundError):
                await other.responses.retrieve(reply.id)
            with pytest.raises(openai.BadRequestError, match="there is no response"):
                await other.responses.create(model="tiny", input="hi", previous_response_id=reply.id)
            assert (await client.responses.retrieve(reply.id)).output_text == "Hello"

    run(scenario)


def test_logprobs_are_there_when_they_are_included() -> None:
    four = TokenScore(5, b"4", -0.5, (TokenScore(5, b"4", -0.5), TokenScore(6, b"\xff", -2.0)))
    script: list[Step] = [Started(1), Text("4", scores=(four,)), Finished(FinishReason.STOP, usage=Usage(1, 1))]

    async def scenario() -> None:
        async with served(script) as (client, runtime):
            reply = await client.responses.create(
                model="tiny", input="hi", include=["message.output_text.logprobs"], top_logprobs=2
            )
            assert runtime.asked[0].generation.top_logprobs == 2
            item: Any = reply.output[0]
            [score] = item.content[0].logprobs
            assert (score.token, score.logprob, [top.logprob for top in score.top_logprobs]) == ("4", -0.5, [-0.5, -2])
            plain: Any = await client.responses.create(model="tiny", input="hi")
            assert (plain.output[0].content[0].logprobs, runtime.asked[1].generation.top_logprobs) == ([], None)

    run(scenario)


def test_tokens_are_counted_without_an_answer() -> None:
    async def scenario() -> None:
        async with served() as (client, runtime):
            counted = await client.responses.input_tokens.count(model="tiny", input="hi", instructions="Be brief.")
            assert (counted.input_tokens, runtime.asked) == (7, [])

    run(scenario)


def test_an_error_in_the_middle_of_a_stream_is_an_event_of_its_own() -> None:
    async def scenario() -> None:
        script: list[Step] = [*hello()[:2], errors.Unavailable("the engine is gone")]
        async with served(script) as (client, _):
            stream = await client.responses.create(model="tiny", input="hi", stream=True)
            events: list[Any] = [event async for event in stream]
            assert [event.type for event in events[-2:]] == ["error", "response.failed"]
            assert (events[-2].code, events[-2].message) == ("unavailable", "the engine is gone")
            assert events[-1].response.status == "failed"
            assert events[-1].response.error.message == "the engine is gone"
            with pytest.raises(openai.NotFoundError):
                await client.responses.retrieve(events[-1].response.id)

    run(scenario)


REFUSALS: dict[str, tuple[str, dict[str, Any]]] = {
    "input": ("input must have 1–4096 items, got 0", {"input": []}),
    "input[0].type": ("input[0].type", {"input": [{"type": "computer_call"}]}),
    "input[0].content[1].type": (
        "input[0].content[1].type is 'input_image'; a part of role user must be 'input_text'",
        {
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "x"}, {"type": "input_image"}]},
            ]
        },
    ),
    "input[0].content[0].type": (
        "a part of role assistant must be 'output_text'",
        {"input": [{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}]},
    ),
    "input[1].type": (
        "'item_reference' is not supported",
        {"input": [{"role": "user", "content": "x"}, {"type": "item_reference", "id": "msg_1"}]},
    ),
    "input[0].call_id": (
        "which no earlier function_call has",
        {"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]},
    ),
    "input[0].arguments": (
        "must be JSON text",
        {"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{"}]},
    ),
    "input[0].rle": ("unknown field 'input[0].rle'", {"input": [{"role": "user", "content": "x", "rle": 1}]}),
    "tools[0].type": ("tools[0].type", {"tools": [{"type": "web_search"}]}),
    "tools[0].name": ("tools[0].name must be 1–64", {"tools": [WEATHER | {"name": "a b"}]}),
    "max_output_tokens": ("max_output_tokens must be 1–", {"max_output_tokens": 0}),
    "temperature": ("temperature must be 0–", {"temperature": -1}),
    "top_logprobs": ("top_logprobs must be 0–20", {"top_logprobs": 21}),
    "include[0]": ("include[0] must be", {"include": ["file_search_call.results"]}),
    "metadata": ("at most 16 entries, got 17", {"metadata": {str(number): "x" for number in range(17)}}),
    "background": ("background must be False", {"background": True}),
    "conversation": ("Name the last response in previous_response_id", {"conversation": "conv_1"}),
    "truncation": ("truncation must be 'disabled'", {"truncation": "auto"}),
    "reasoning.effort": ("reasoning.effort must be 'none'", {"reasoning": {"effort": "high"}}),
    "text.verbosity": ("text.verbosity must be 'medium'", {"text": {"verbosity": "low"}}),
    "max_tool_calls": ("max_tool_calls must be at least 1", {"max_tool_calls": 0}),
    "stream_options": ("stream_options needs stream", {"extra_body": {"stream_options": {}}}),
    "max_tokens": ("unknown field 'max_tokens'", {"extra_body": {"max_tokens": 4}}),
}


def test_what_cannot_be_is_refused_by_name() -> None:
    async def scenario() -> None:
        async with served() as (client, runtime):
            for field, (text, changes) in REFUSALS.items():
                with pytest.raises(openai.BadRequestError) as caught:
                    await client.responses.create(**({"model": "tiny", "input": "hi"} | changes))
                assert text in caught.value.message
                assert caught.value.param == field
            assert runtime.asked == []

    run(scenario)


def test_a_query_that_is_not_known_is_refused() -> None:
    async def scenario() -> None:
        async with served() as (client, _):
            reply = await client.responses.create(model="tiny", input="hi")
            with pytest.raises(openai.BadRequestError, match="stream must be false"):
                await client.responses.retrieve(reply.id, stream=True)
            with pytest.raises(openai.BadRequestError, match="limit must be 1–100"):
                await client.responses.input_items.list(reply.id, limit=101)
            with pytest.raises(openai.BadRequestError, match="which no item has"):
                await client.responses.input_items.list(reply.id, after="msg_0")
            with pytest.raises(openai.BadRequestError, match="unknown query field 'colour'"):
                await client.responses.delete(reply.id, extra_query={"colour": "red"})

    run(scenario)
