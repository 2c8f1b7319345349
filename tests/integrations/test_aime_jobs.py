"""What a job of an AIME API server asks for, in every form that its endpoints send."""

from __future__ import annotations

import json
from typing import Any

import pytest

from camelid.errors import InvalidRequest
from camelid.integrations.aime.jobs import Counts, go_on, outputs, to_job, to_request
from camelid.types import ChatRequest, CompletionRequest, Generation, Message, Sampling, Stopping

HI = [{"role": "user", "content": "Hi"}]
USUAL = Generation(Sampling(temperature=0.8, top_k=40, top_p=0.9, seed=7), Stopping(max_tokens=2000))


def request(**inputs: Any) -> ChatRequest | CompletionRequest:
    return to_request(to_job({"job_id": "j", **inputs}, 7), "m")


def test_a_conversation_may_be_a_list_or_its_json_and_is_followed_by_the_new_line() -> None:
    whole = ChatRequest("m", (Message("user", "Hi"),), generation=USUAL)
    assert request(chat_context=HI) == whole
    assert request(chat_context=json.dumps(HI), prompt_input="") == whole
    longer = (Message("user", "Hi"), Message("user", "there"))
    assert request(chat_context=HI, prompt_input="there") == ChatRequest("m", longer, generation=USUAL)


def test_a_conversation_that_ends_with_the_assistant_is_gone_on_with() -> None:
    asked = request(chat_context=[*HI, {"role": "assistant", "content": "Well, "}])
    assert asked.continues_last  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("inputs", "prompt"),
    [
        ({"prompt_input": "User: hi"}, "User: hi"),
        ({"text": "User: hi"}, "User: hi"),
        ({"text_context": "Once upon", "prompt_input": ""}, "Once upon"),
        ({"text_context": "Once upon", "prompt_input": " a time"}, "Once upon a time"),
        ({"chat_context": [], "text": "x"}, "x"),
    ],
)
def test_a_plain_text_is_completed_as_it_stands(inputs: dict[str, Any], prompt: str) -> None:
    assert request(**inputs) == CompletionRequest("m", prompt, USUAL)


def test_the_limits_and_the_sampling_of_a_job_are_its_own() -> None:
    given = {"temperature": 0, "top_k": 5.0, "top_p": 0.5, "max_gen_tokens": 3, "seed": 9, "repetition_penalty": 1.1}
    sampling = Sampling(temperature=0, top_k=5, top_p=0.5, seed=9, repetition_penalty=1.1)
    assert request(text="x", **given).generation == Generation(sampling, Stopping(max_tokens=3))


@pytest.mark.parametrize(
    ("inputs", "named"),
    [
        ({}, "chat_context, text_context, prompt_input and text"),
        ({"chat_context": "{"}, "chat_context is no JSON"),
        ({"chat_context": "{}"}, "chat_context must be a list"),
        ({"chat_context": [{"role": "user"}]}, r"chat_context\[0\] must have a role and a content"),
        ({"chat_context": [{"role": "tool", "content": "x"}]}, r"chat_context\[0\].role"),
        ({"text": ["x"]}, "text must be a text"),
        ({"text": "x", "top_k": 1.5}, "top_k must be a whole number"),
        ({"text": "x", "temperature": "hot"}, "temperature must be a number"),
        ({"text": "x", "top_p": 2}, "top_p must be 0–1"),
        ({"text": "x", "max_gen_tokens": 0}, "max_tokens must be 1"),
    ],
)
def test_what_cannot_be_asked_is_said_by_name(inputs: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidRequest, match=named):
        request(**inputs)


def test_a_kept_job_has_no_keys() -> None:
    job = to_job({"job_id": "j", "text": "x", "key": "s1", "client_session_auth_key": "s2", "auth_key": "s3"}, 7)
    assert job.inputs == {"job_id": "j", "text": "x"}


def test_changed_inputs_count_for_the_rest_of_an_answer() -> None:
    rest = go_on(request(text="Once", max_gen_tokens=10), " upon", 4, {"temperature": 0.1})
    assert isinstance(rest, CompletionRequest)
    assert (rest.prompt, rest.generation.stopping.max_tokens) == ("Once upon", 6)
    assert (rest.generation.sampling.temperature, rest.generation.sampling.top_k) == (0.1, 40)
    chat = go_on(request(chat_context=HI), "Well", 1, {})
    assert isinstance(chat, ChatRequest)
    assert chat.messages[-1] == Message("assistant", "Well")
    again = go_on(chat, ", so", 1, {})
    assert isinstance(again, ChatRequest)
    assert again.messages[1:] == (Message("assistant", "Well, so"),)
    assert go_on(request(text="x"), "y", 5, {"max_gen_tokens": 5}) is None


def test_a_result_tells_all_counts_and_keeps_every_letter_of_the_text() -> None:
    made = outputs("\n User: r", Counts(5, 3), "m", 8192, "cut")
    assert made == {
        "text": "\n User: r",
        "model_name": "m",
        "num_generated_tokens": 3,
        "prompt_length": 5,
        "max_seq_len": 8192,
        "current_context_length": 8,
        "metrics": {"in_num_tokens": 5, "out_num_tokens": 3},
        "error": "cut",
    }
