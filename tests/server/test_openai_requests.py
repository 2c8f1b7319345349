"""What is refused, and that nothing is ignored: every field of the official client is known."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsBase as ChatParams
from openai.types.completion_create_params import CompletionCreateParamsBase as CompletionParams

from camelid.errors import InvalidRequest
from camelid.rules import Beams, Rules
from camelid.server.decode import decode
from camelid.server.limits import Limits
from camelid.server.openai.bodies import ChatBody, CompletionBody
from camelid.server.openai.completion_requests import completion_form, to_completion_requests
from camelid.server.openai.requests import NEUTRAL, REFUSED, chat_form, to_chat_request

HI = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "f"}}
CHAT, COMPLETION = msgspec.json.Decoder(ChatBody), msgspec.json.Decoder(CompletionBody)


def ask(body: dict[str, Any]) -> None:
    data = json.dumps(body).encode()
    if "messages" in body:
        chat = decode(data, CHAT)
        to_chat_request(chat, "tiny", 0, Limits())
        chat_form(chat, "tiny")
    else:
        completion = decode(data, COMPLETION)
        to_completion_requests(completion, "tiny", 0, Limits())
        completion_form(completion, "tiny")


def refusal(body: dict[str, Any]) -> tuple[str | None, str]:
    with pytest.raises(InvalidRequest) as caught:
        ask(body)
    return caught.value.field, caught.value.message


def test_transformers_searches_and_rules_are_taken() -> None:
    sent = {"num_beams": 4, "n": 2, "length_penalty": 0.5, "bad_words_ids": [[5, 6]], "temperature": 0.5}
    chat = to_chat_request(decode(json.dumps({"messages": HI, **sent}).encode(), CHAT), "tiny", 0, Limits())
    assert chat.generation.beams == Beams(4, 0.5)
    assert chat.generation.rules == Rules(bad_words_ids=((5, 6),))
    greedy = to_chat_request(
        decode(b'{"messages": [{"role": "user", "content": "hi"}], "do_sample": false}', CHAT), "tiny", 0, Limits()
    )
    assert greedy.generation.sampling.temperature == 0


@pytest.mark.parametrize(("params", "struct"), [(ChatParams, ChatBody), (CompletionParams, CompletionBody)])
def test_every_field_of_the_official_client_is_known(params: Any, struct: type[msgspec.Struct]) -> None:
    assert set(params.__annotations__) - set(struct.__struct_fields__) - {"stream"} == set()


@pytest.mark.parametrize("field", sorted((REFUSED.keys() | NEUTRAL.keys()) & set(ChatBody.__struct_fields__)))
def test_a_field_that_cannot_be_honoured_is_refused_by_name(field: str) -> None:
    refused, message = refusal({"messages": HI, field: {"some": "thing"}})
    assert (refused, message.startswith(f"{field} ")) == (field, True)


@pytest.mark.parametrize("field", sorted(NEUTRAL.keys() & set(ChatBody.__struct_fields__)))
def test_a_field_that_asks_for_nothing_special_is_taken(field: str) -> None:
    for value in (None, *NEUTRAL[field]):
        ask({"messages": HI, field: value})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("temperature", -1, "temperature must be 0–100, got -1.0"),
        ("temperature", 1e300, "temperature must be 0–100, got 1e+300"),
        ("top_p", 1.5, "top_p must be 0–1, got 1.5"),
        ("top_k", -2, "top_k must be 0–2147483647, got -2"),
        ("n", 0, "n must be 1–8, got 0"),
        ("n", 10**30, f"n must be 1–8, got {10**30}"),
        ("seed", 2**64, f"seed must be 0–{2**64 - 1}, got {2**64}"),
        ("seed", -(2**63) - 1, f"seed must be 0–{2**64 - 1}, got {-(2**63) - 1}"),
        ("max_tokens", 0, "max_tokens must be 1–2147483647, got 0"),
        ("max_tokens", "many", "max_tokens: expected a whole number, got a string"),
        ("max_tokens", 1.5, "max_tokens: expected a whole number, got a number"),
        ("presence_penalty", 3, "presence_penalty must be -2–2, got 3.0"),
        ("frequency_penalty", -3, "frequency_penalty must be -2–2, got -3.0"),
        ("stop", [""], "a stop string must have 1–256 characters, got 0"),
        ("stop", ["x"] * 17, "stop must have at most 16 strings, got 17"),
        ("logit_bias", {"1": 101}, "logit_bias must be -100–100, got 101.0"),
        ("top_logprobs", 3, "top_logprobs needs logprobs to be true"),
        ("tools", [TOOL, TOOL], "tools has the function 'f' twice"),
        ("tools", [TOOL] * 129, "tools must have at most 128 entries, got 129"),
        ("tool_choice", "required", "tool_choice 'required' needs tools"),
        ("messages", [], "messages must have 1–4096 entries, got 0"),
        ("messages", HI * 4097, "messages must have 1–4096 entries, got 4097"),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_range(field: str, value: Any, message: str) -> None:
    assert refusal({"messages": HI} | {field: value}) == (field, message)


@pytest.mark.parametrize(
    ("messages", "field", "message"),
    [
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}],
            "messages[0].content[0].type",
            "messages[0].content[0] has the type 'image_url'; the model reads only 'text'",
        ),
        ([{"role": "user", "content": "a", "name": "Ann"}], "messages[0].name", "messages[0].name is not supported"),
        (
            [*HI, {"role": "assistant", "content": "no", "refusal": "no"}],
            "messages[1].refusal",
            "messages[1].refusal is not supported",
        ),
        ([*HI, {"role": "assistant"}], "messages[1].content", "messages[1] must have content or tool_calls"),
        (
            [*HI, {"role": "tool", "content": "x", "tool_call_id": "c"}],
            "messages[1].tool_call_id",
            "messages[1].tool_call_id is 'c', which no earlier call of the assistant has",
        ),
        ([{"role": "user"}], "messages[0].content", "messages[0].content is required"),
        ([{"role": "robot", "content": ""}], "messages[0].role", "messages[0].role: invalid value 'robot'"),
    ],
)
def test_a_message_that_cannot_be_used_is_refused_with_its_place(messages: Any, field: str, message: str) -> None:
    assert refusal({"messages": messages}) == (field, message)


@pytest.mark.parametrize(
    ("function", "field"),
    [
        ({"name": "two words"}, "tools[0].function.name"),
        ({"name": "f", "parameters": 1}, "tools[0].function.parameters"),
    ],
)
def test_a_tool_that_cannot_be_used_is_refused_with_its_place(function: dict[str, Any], field: str) -> None:
    assert refusal({"messages": HI, "tools": [{"type": "function", "function": function}]})[0] == field


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt[1]"),
        ({"prompt": ["a", []]}, "prompt[1]"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": ["a"] * 65}, "prompt"),
        ({"prompt": "a", "suffix": "b", "echo": True}, "echo"),
        ({"prompt": "a", "n": 3, "best_of": 2}, "best_of"),
        ({"prompt": "a", "best_of": 9}, "best_of"),
        ({"prompt": "a", "best_of": 0}, "best_of"),
        ({"prompt": "a", "best_of": 2, "stream": True}, "best_of"),
        ({"prompt": "a", "max_tokens": 0}, "max_tokens"),
        ({"prompt": "a", "logprobs": 21}, "logprobs"),
    ],
)
def test_a_plain_completion_that_cannot_be_done_is_refused_by_field(body: dict[str, Any], field: str) -> None:
    assert refusal(body)[0] == field


def test_two_limits_for_one_answer_must_agree() -> None:
    assert refusal({"messages": HI, "max_tokens": 5, "max_completion_tokens": 6})[0] == "max_tokens"


def test_usage_in_the_stream_needs_a_stream() -> None:
    refused, message = refusal({"messages": HI, "stream_options": {"include_usage": True}})
    assert (refused, message) == ("stream_options", "stream_options needs stream to be true")
