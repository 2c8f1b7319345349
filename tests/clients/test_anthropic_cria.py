"""The official `anthropic` client against `camelid serve cria`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

HELLO: Any = [{"role": "user", "content": "Hello!"}]
GREEDY: dict[str, Any] = {"model": "cria", "max_tokens": 40, "extra_body": {"temperature": 0}}
TOOL: Any = {
    "name": "get_weather",
    "description": "Get the current weather in a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@pytest.fixture(scope="module")
def client() -> Iterator[anthropic.Anthropic]:
    command = [sys.executable, "-m", "camelid", "serve", "cria", "--port", "0", "--log-level", "warning"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "CAMELID_CONTEXT_LENGTH": "512"}
    environment["CAMELID_API_KEY"] = "sesame"
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stderr is not None
            lines = iter(process.stderr.readline, "")
            url = next(found[0] for line in lines if (found := re.search(r"http://[\d.]+:\d+", line)))
            with anthropic.Anthropic(base_url=url, api_key="sesame", max_retries=0) as client:
                yield client
        finally:
            process.send_signal(signal.SIGINT)  # SIGTERM would have it take requests for some seconds more


def text_of(message: anthropic.types.Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def test_a_message_is_answered(client: anthropic.Anthropic) -> None:
    message = client.messages.create(messages=HELLO, **GREEDY)
    assert (message.type, message.role, message.model, message.stop_reason) == (
        "message",
        "assistant",
        "cria",
        "end_turn",
    )
    assert text_of(message)
    assert message.id.startswith("msg_")
    assert message.usage.output_tokens > 1
    counted = client.messages.count_tokens(model="cria", messages=HELLO)
    assert message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0) == counted.input_tokens


def test_a_stream_says_what_the_whole_message_says(client: anthropic.Anthropic) -> None:
    whole = client.messages.create(messages=HELLO, **GREEDY)
    with client.messages.stream(messages=HELLO, **GREEDY) as stream:
        kinds = [event.type for event in stream]
        streamed = stream.get_final_message()
    assert text_of(streamed) == text_of(whole)
    assert streamed.stop_reason == whole.stop_reason
    assert streamed.usage.output_tokens == whole.usage.output_tokens
    assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") == 1


def test_system_text_and_blocks_mean_the_same(client: anthropic.Anthropic) -> None:
    plain = client.messages.create(messages=HELLO, system="You are cria.", **GREEDY)
    blocks: Any = [{"type": "text", "text": "You are cria.", "cache_control": {"type": "ephemeral"}}]
    content: Any = [{"role": "user", "content": [{"type": "text", "text": "Hello!"}]}]
    assert text_of(client.messages.create(messages=content, system=blocks, **GREEDY)) == text_of(plain)


def test_an_answer_ends_at_max_tokens_or_a_stop_sequence(client: anthropic.Anthropic) -> None:
    cut = client.messages.create(messages=HELLO, **{**GREEDY, "max_tokens": 1})
    assert (cut.stop_reason, cut.usage.output_tokens) == ("max_tokens", 1)
    whole = text_of(client.messages.create(messages=HELLO, **GREEDY))
    stopped = client.messages.create(messages=HELLO, stop_sequences=[whole[2]], **GREEDY)
    assert (text_of(stopped), stopped.stop_reason, stopped.stop_sequence) == (whole[:2], "stop_sequence", whole[2])


def test_a_tools_result_goes_back_into_the_conversation(client: anthropic.Anthropic) -> None:
    messages: Any = [
        {"role": "user", "content": "What is the weather in Paris?"},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Paris"}}],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": '{"temperature": 21}'}],
        },
    ]
    answer = client.messages.create(messages=messages, tools=[TOOL], **GREEDY)
    assert answer.stop_reason in ("end_turn", "max_tokens", "tool_use")
    without = client.messages.count_tokens(model="cria", messages=messages[:1])
    with_tools = client.messages.count_tokens(model="cria", messages=messages[:1], tools=[TOOL])
    assert with_tools.input_tokens > without.input_tokens


REFUSALS: dict[str, tuple[str, dict[str, Any]]] = {
    "temperature": ("temperature must be 0–1", {"extra_body": {"temperature": 1.5}}),
    "top_p": ("top_p must be", {"extra_body": {"top_p": 2}}),
    "max_tokens": ("max_tokens must be", {"max_tokens": 0}),
    "no messages": ("messages must be 1–", {"messages": []}),
    "a role": ("role must be", {"messages": [{"role": "system", "content": "x"}]}),
    "an image": (
        "'image' is not supported",
        {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]},
    ),
    "thinking": ("thinking is not supported", {"thinking": {"type": "enabled", "budget_tokens": 2000}}),
    "a forced call of no tool": ("needs tools", {"tool_choice": {"type": "any"}}),
    "a forced call of another tool": (
        "tool_choice.name must be",
        {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "x"}},
    ),
    "a format that is none": (
        "output_config.format.schema: Invalid type",
        {"output_config": {"format": {"type": "json_schema", "schema": {"type": "x"}}}},
    ),
    "a tool of theirs": (
        "type 'bash_20250124' is not supported",
        {"tools": [{"type": "bash_20250124", "name": "bash"}]},
    ),
    "a result of nothing": (
        "which no earlier tool_use has",
        {"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "x", "content": "y"}]}]},
    ),
    "an unknown field": ("unknown field 'max_tokns'", {"extra_body": {"max_tokns": 3}}),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_is_refused_by_name(client: anthropic.Anthropic, case: str) -> None:
    text, changes = REFUSALS[case]
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.messages.create(**{**GREEDY, "messages": HELLO, **changes})
    body: Any = caught.value.body
    assert (body["type"], body["error"]["type"]) == ("error", "invalid_request_error")
    assert text in body["error"]["message"]


def test_an_unknown_model_and_a_wrong_key_are_told_apart(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(**{**GREEDY, "model": "nope", "messages": HELLO})
    with pytest.raises(anthropic.AuthenticationError):
        client.with_options(api_key="wrong").messages.create(messages=HELLO, **GREEDY)
