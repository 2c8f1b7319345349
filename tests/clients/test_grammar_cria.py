"""Answers that must have a form, through the three official clients, against `camelid serve cria`."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import jsonschema
import ollama
import openai
import pytest

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 18, "maximum": 99},
        "tags": {"type": "array", "items": {"enum": ["red", "green"]}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
CITY: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 10}, "unit": {"enum": ["celsius", "fahrenheit"]}},
    "required": ["city", "unit"],
    "additionalProperties": False,
}
NAMES = ("get_weather", "set_alarm")
TOOLS: Any = [{"type": "function", "function": {"name": name, "parameters": CITY}} for name in NAMES]
MESSAGES: Any = [{"role": "user", "content": "Tell me about Anna, 42 years old."}]
ASK: dict[str, Any] = {"model": "cria", "messages": MESSAGES, "max_tokens": 150}
STRICT: Any = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}
HOT = {"temperature": 1.5}


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, int]]:
    command = [sys.executable, "-m", "camelid", "serve", "cria", "--port", "0", "--log-level", "warning"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "CAMELID_CONTEXT_LENGTH": "1024"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stderr is not None
            found = re.search(r"listens on (http://127\.0\.0\.1:\d+)\n", process.stderr.readline())
            assert found
            yield found[1], process.pid
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.kill()


@pytest.fixture(scope="module")
def client(server: tuple[str, int]) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server[0]}/v1", api_key="-", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def claude(server: tuple[str, int]) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server[0], api_key="-", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def llama(server: tuple[str, int]) -> Iterator[ollama.Client]:
    client = ollama.Client(host=server[0])
    yield client
    client._client.close()


def check(text: str | None, schema: dict[str, Any] = PERSON) -> None:
    assert text is not None
    jsonschema.validate(json.loads(text), schema)


def streamed(client: openai.OpenAI, **ask: Any) -> Iterator[str]:
    for chunk in client.chat.completions.create(stream=True, **{**ASK, **ask}):
        yield chunk.choices[0].delta.content or ""


# ── OpenAI ──


@pytest.mark.parametrize("seed", range(4))
def test_a_strict_schema_is_kept_however_wild_the_sampling_is(client: openai.OpenAI, seed: int) -> None:
    reply = client.chat.completions.create(**ASK, **HOT, seed=seed, response_format=STRICT)
    assert reply.choices[0].finish_reason == "stop"
    check(reply.choices[0].message.content)


def test_a_stream_under_a_grammar_says_what_the_whole_reply_says(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(**ASK, seed=3, response_format=STRICT).choices[0].message.content
    assert "".join(streamed(client, seed=3, response_format=STRICT)) == whole


def test_choices_each_keep_the_form_and_have_scores(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(
        **ASK, **HOT, n=3, seed=2, response_format=STRICT, logprobs=True, top_logprobs=2
    )
    for choice in reply.choices:
        check(choice.message.content)
        assert choice.logprobs is not None
        assert "".join(token.token for token in choice.logprobs.content or ()) == choice.message.content


def test_json_mode_begins_an_object(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(**ASK, response_format={"type": "json_object"}, temperature=0)
    text = reply.choices[0].message.content or ""
    assert text.startswith("{")
    if reply.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(text), dict)


@pytest.mark.parametrize(
    ("extra", "pattern"),
    [
        ({"guided_regex": "[A-Z]{3}-[0-9]{4}"}, "[A-Z]{3}-[0-9]{4}"),
        ({"structured_outputs": {"choice": ["yes", "no", "perhaps"]}}, "yes|no|perhaps"),
        ({"structured_outputs": {"grammar": 'root ::= "a" [0-9]{2} ("b" | "c")'}}, "a[0-9]{2}[bc]"),
        ({"guided_grammar": 'start: "(" start ")" | /[xy]{1,3}/'}, r"\(*[xy]{1,3}\)*"),
    ],
)
def test_an_answer_follows_a_regex_a_choice_or_a_grammar(
    client: openai.OpenAI, extra: dict[str, Any], pattern: str
) -> None:
    for seed in range(2):
        reply = client.chat.completions.create(**ASK, **HOT, seed=seed, extra_body=extra)
        assert re.fullmatch(pattern, reply.choices[0].message.content or "")
    text = client.completions.create(model="cria", prompt="Once", max_tokens=60, extra_body=extra).choices[0].text
    assert re.fullmatch(pattern, text)


@pytest.mark.parametrize(
    ("choice", "names", "most"),
    [
        ("required", NAMES, 16),
        ({"type": "function", "function": {"name": "set_alarm"}}, ("set_alarm",), 1),
    ],
)
def test_a_required_call_is_well_formed(client: openai.OpenAI, choice: Any, names: tuple[str, ...], most: int) -> None:
    for seed in range(2):
        reply = client.chat.completions.create(**ASK, **HOT, seed=seed, tools=TOOLS, tool_choice=choice)
        calls: Any = reply.choices[0].message.tool_calls
        assert not reply.choices[0].message.content
        assert 1 <= len(calls) <= most
        for call in calls[: len(calls) - (reply.choices[0].finish_reason == "length")]:
            assert call.function.name in names
            check(call.function.arguments, CITY)


def test_one_call_is_one_call(client: openai.OpenAI) -> None:
    ask: dict[str, Any] = {**ASK, "tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False}
    reply = client.chat.completions.create(**ask, **HOT, seed=1)
    assert reply.choices[0].finish_reason == "tool_calls"
    [call] = reply.choices[0].message.tool_calls or ()
    chunks = client.chat.completions.create(**ask, **HOT, seed=1, stream=True)
    deltas: Any = [delta for chunk in chunks for delta in chunk.choices[0].delta.tool_calls or ()]
    assert "".join(delta.function.arguments for delta in deltas) == call.function.arguments  # type: ignore[union-attr]


def test_the_clients_own_parser_takes_the_answer(client: openai.OpenAI) -> None:
    pydantic = pytest.importorskip("pydantic")
    kind = pydantic.create_model("Answer", word=(str, pydantic.Field(max_length=10)), is_true=(bool, ...))
    reply = client.chat.completions.parse(**ASK, response_format=kind)
    assert isinstance(reply.choices[0].message.parsed, kind)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"response_format": {**STRICT, "json_schema": {**STRICT["json_schema"], "schema": {"type": "x"}}}}, "schema"),
        ({"extra_body": {"guided_regex": "("}}, "guided_regex"),
        ({"extra_body": {"guided_grammar": "start: nowhere"}}, "guided_grammar"),
        ({"extra_body": {"guided_regex": "a"}, "tools": TOOLS}, "guided_regex"),
    ],
)
def test_a_bad_form_is_refused_by_name(client: openai.OpenAI, fields: dict[str, Any], field: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**ASK, **fields)
    assert caught.value.param is not None
    assert caught.value.param.endswith(field)
    assert field in str(caught.value.body)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the engine's process through /proc (Linux)")
def test_an_engine_that_is_killed_in_mid_answer_costs_a_pause_and_nothing_else(
    server: tuple[str, int], client: openai.OpenAI
) -> None:
    long = {**PERSON, "properties": {**PERSON["properties"], "name": {"type": "string", "minLength": 120}}}
    form: Any = {"type": "json_schema", "json_schema": {"name": "long", "schema": long, "strict": True}}
    ask: dict[str, Any] = {**HOT, "seed": 11, "response_format": form, "max_tokens": 300}
    undisturbed = "".join(streamed(client, **ask))
    stream = streamed(client, **ask)
    begun = [next(stream) for _ in range(8)]
    files = Path(f"/proc/{server[1]}/task").glob("*/children")
    children = [int(child) for file in files for child in file.read_text().split()]
    [engine] = [pid for pid in children if b"runtime.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(engine, signal.SIGKILL)
    assert "".join([*begun, *stream]) == undisturbed


def test_the_responses_api_keeps_forms_and_choices_too(client: openai.OpenAI) -> None:
    ask: dict[str, Any] = {"model": "cria", "input": MESSAGES, "max_output_tokens": 150, "temperature": 1.5}
    form: Any = {"type": "json_schema", "name": "person", "schema": PERSON, "strict": True}
    check(client.responses.create(**ask, text={"format": form}).output_text)
    tools: Any = [{"type": "function", "strict": True, **tool["function"]} for tool in TOOLS]
    choice: Any = {"type": "function", "name": NAMES[1]}
    [item] = client.responses.create(**ask, tools=tools, tool_choice=choice).output
    assert item.type == "function_call"
    assert item.name == NAMES[1]
    check(item.arguments, CITY)
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(**ask, text={"format": {**form, "schema": {"type": "x"}}})
    assert caught.value.param == "text.format.schema"


# ── Ollama ──


@pytest.mark.parametrize("stream", [False, True])
def test_ollamas_format_is_kept(llama: ollama.Client, stream: bool) -> None:
    options = {"temperature": 1.5, "seed": 4, "num_predict": 150}
    answer: Any = llama.chat("cria", MESSAGES, format=PERSON, options=options, stream=stream)
    parts = list(answer) if stream else [answer]
    check("".join(part.message.content or "" for part in parts))
    assert parts[-1].done_reason == "stop"
    check(llama.generate("cria", "Anna is 42.", format=PERSON, options=options).response)
    assert llama.generate("cria", "x", format="json", options={"num_predict": 5}).response.startswith("{")


# ── Anthropic ──


@pytest.mark.parametrize(
    ("choice", "names"), [({"type": "any"}, NAMES), ({"type": "tool", "name": NAMES[1]}, NAMES[1:])]
)
def test_anthropics_tool_choice_makes_a_call(
    claude: anthropic.Anthropic, choice: dict[str, Any], names: tuple[str, ...]
) -> None:
    tools: Any = [{"name": name, "input_schema": CITY} for name in NAMES]
    once: Any = {**choice, "disable_parallel_tool_use": True}
    ask: dict[str, Any] = {**ASK, "extra_body": {"temperature": 1.0}, "tools": tools, "tool_choice": once}
    answer: Any = claude.messages.create(**ask)
    assert answer.stop_reason == "tool_use"
    [block] = answer.content
    assert (block.type, block.name in names) == ("tool_use", True)
    jsonschema.validate(block.input, CITY)
    with claude.messages.stream(**ask) as stream:
        final: Any = stream.get_final_message()
    jsonschema.validate(final.content[0].input, CITY)


def test_anthropics_output_format_is_kept(claude: anthropic.Anthropic) -> None:
    form: Any = {"format": {"type": "json_schema", "schema": PERSON}}
    answer: Any = claude.messages.create(**ASK, output_config=form)
    check(answer.content[0].text)
    assert answer.stop_reason == "end_turn"
