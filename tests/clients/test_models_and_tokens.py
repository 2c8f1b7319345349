"""The small routes around the answers: lists of models in two dialects, aliases, tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from openai import OpenAI

HI: Any = [{"role": "user", "content": "Hello!"}]
NAMES = ["cria", "gpt-4o", "claude-x"]


@pytest.fixture(scope="module")
def plain(cria_url: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=cria_url, verify=False) as client:
        yield client


@pytest.fixture(scope="module")
def gpt(cria_url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{cria_url}/v1", api_key="-", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def claude(cria_url: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=cria_url, api_key="-", max_retries=0) as client:
        yield client


def test_each_client_lists_the_models_in_its_own_form(gpt: OpenAI, claude: anthropic.Anthropic) -> None:
    assert [(model.id, model.object) for model in gpt.models.list()] == [(name, "model") for name in NAMES]
    listed = claude.models.list()
    assert [(model.id, model.type, model.display_name) for model in listed.data] == [
        (name, "model", name) for name in NAMES
    ]
    assert listed.data[0].max_input_tokens == 512
    assert claude.models.retrieve("claude-x").id == "claude-x"
    with pytest.raises(anthropic.NotFoundError) as caught:
        claude.models.retrieve("claude-y")
    assert caught.value.body["error"]["type"] == "not_found_error"  # type: ignore[index]


def test_pages_of_models_go_on_where_they_ended(claude: anthropic.Anthropic) -> None:
    assert [model.id for model in claude.models.list(limit=1)] == NAMES
    assert [model.id for model in claude.models.list(limit=2).data] == NAMES[:2]
    assert [model.id for model in claude.models.list(after_id="cria").data] == NAMES[1:]
    assert [model.id for model in claude.models.list(before_id="claude-x", limit=1).data] == NAMES[1:2]
    for query in ({"limit": 0}, {"after_id": "nope"}, {"lifecycle": ["retired"]}, {"extra_query": {"colour": "red"}}):
        with pytest.raises(anthropic.BadRequestError):
            claude.models.list(**query)  # type: ignore[arg-type]


def test_a_client_with_a_fixed_name_is_served_under_it(gpt: OpenAI, claude: anthropic.Anthropic) -> None:
    own, alias = (gpt.chat.completions.create(model=name, messages=HI, temperature=0) for name in ("cria", "gpt-4o"))
    assert (alias.model, alias.choices[0].message.content) == ("gpt-4o", own.choices[0].message.content)
    message = claude.messages.create(model="claude-x", messages=HI, max_tokens=4)
    assert message.model == "claude-x"
    with pytest.raises(openai.NotFoundError):
        gpt.chat.completions.create(model="gpt-5", messages=HI)


def test_tokens_are_those_that_a_completion_is_asked_with(plain: httpx2.Client, gpt: OpenAI) -> None:
    text = "1, 2, né €<|eot_id|>"
    found = plain.post("/tokenize", json={"prompt": text, "return_token_strs": True}).json()
    assert found["count"] == len(found["tokens"]) == len(found["token_strs"])
    assert found["max_model_len"] == 512
    assert found["token_strs"][0] == "<|begin_of_text|>"
    assert found["token_strs"][-1] == "<|eot_id|>"
    bare = plain.post("/tokenize", json={"prompt": text, "add_special_tokens": False, "model": "gpt-4o"}).json()
    assert (bare["tokens"], bare["token_strs"]) == (found["tokens"][1:], None)
    by_ids, by_text = (
        gpt.completions.create(model="cria", prompt=prompt, temperature=0, max_tokens=8)
        for prompt in (found["tokens"], text)
    )
    assert (by_ids.usage, by_ids.choices[0].text) == (by_text.usage, by_text.choices[0].text)
    assert plain.post("/detokenize", json={"tokens": found["tokens"]}).json() == {"prompt": f"<|begin_of_text|>{text}"}


def test_a_conversation_has_the_tokens_that_its_prompt_is_counted_with(plain: httpx2.Client, gpt: OpenAI) -> None:
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
    for body in ({"messages": HI}, {"messages": HI, "tools": [tool]}):
        found = plain.post("/tokenize", json=body).json()
        reply: Any = gpt.chat.completions.create(model="cria", max_tokens=1, **body)  # type: ignore[arg-type]
        assert found["count"] == reply.usage.prompt_tokens
    without = plain.post("/tokenize", json={"messages": HI, "add_generation_prompt": False}).json()["tokens"]
    whole = plain.post("/tokenize", json={"messages": HI}).json()["tokens"]
    assert whole[: len(without)] == without
    assert len(whole) > len(without)


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("tokenize", {}, "prompt"),
        ("tokenize", {"prompt": "a", "messages": HI}, "prompt"),
        ("tokenize", {"prompt": "a", "add_generation_prompt": True}, "add_generation_prompt"),
        ("tokenize", {"messages": HI, "add_special_tokens": False}, "add_special_tokens"),
        ("tokenize", {"messages": HI, "continue_final_message": True}, "messages"),
        ("tokenize", {"messages": HI, "chat_template": "x"}, "chat_template"),
        ("tokenize", {"messages": []}, "messages"),
        ("tokenize", {"content": "llama.cpp's"}, "content"),
        ("detokenize", {}, "tokens"),
        ("detokenize", {"tokens": [1, 10**9]}, "tokens[1]"),
        ("detokenize", {"tokens": [-1]}, "tokens[0]"),
        ("detokenize", {"tokens": "a"}, "tokens"),
    ],
)
def test_what_cannot_be_cut_is_refused_by_name(plain: httpx2.Client, path: str, body: Any, field: str) -> None:
    response = plain.post(f"/{path}", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, field)
