"""What clients do, as a table: every row is asked whole and as a stream, through the official clients, of cria.

A row says what is sent on top of the plain request of its API, and what must hold of the answer. The stream of a row
must say what its whole answer says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import anthropic
import ollama
import pytest
from openai import OpenAI

HI: Any = [{"role": "user", "content": "Hello!"}]
COUNT: Any = [{"role": "user", "content": "What is 17 + 25?"}]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL: Any = {"name": "get_weather", "description": "Get the current weather in a city", "parameters": PARAMETERS}
CALLED: Any = {"name": "get_weather", "arguments": '{"city": "Rome"}'}
CALL_TOOL: Any = {"id": "call_1", "type": "function", "function": CALLED}
PARTS: Any = [{"type": "text", "text": "Hello"}, {"type": "text", "text": "!"}]
THOUGHT: Any = [{"type": "thinking", "thinking": "Hm", "signature": ""}, {"type": "text", "text": "Hello."}]
FUNCTION: Any = {"type": "function", "function": TOOL}
FLAT: Any = {"type": "function", "strict": False, **TOOL}
NEUTRAL: Any = {
    "modalities": ["text"],
    "service_tier": "auto",
    "verbosity": "medium",
    "response_format": {"type": "text"},
}
SYSTEM: Any = [{"type": "text", "text": "You are cria.", "cache_control": {"type": "ephemeral"}}]
SHORT = 12  # tokens of an answer of which nothing else is said: enough to differ
NUMBERS: Any = {"model": "cria", "prompt": "1, 2, 3", "temperature": 0, "max_tokens": SHORT}
SAMPLING = ("seed", "presence_penalty", "frequency_penalty", "logit_bias")
TALK: Any = [*HI, {"role": "assistant", "content": "Hello."}, *COUNT]


@dataclass(frozen=True)
class Said:
    """An answer, whatever API it came from: the texts of all choices, why each ended, what was called and counted."""

    texts: tuple[str, ...]
    reasons: tuple[str | None, ...]
    calls: tuple[tuple[str, str], ...] = ()
    counts: tuple[int, ...] = ()  # tokens of prompt and answers
    scores: tuple[float, ...] = ()

    @property
    def text(self) -> str:
        return self.texts[0]


@dataclass(frozen=True)
class Row:
    """What is sent, and what must hold."""

    sends: Mapping[str, Any]
    holds: Callable[[Said], bool] = lambda said: bool(said.text)


class Gathered:
    """Puts the pieces of a stream together."""

    def __init__(self) -> None:
        self.texts: dict[int, list[str]] = {}
        self.reasons: dict[int, str] = {}
        self.calls: list[tuple[str, str]] = []
        self.counts: tuple[int, ...] = ()
        self.scores: list[float] = []

    def add(self, text: str | None, choice: int = 0) -> None:
        self.texts.setdefault(choice, []).append(text or "")

    def said(self) -> Said:
        texts = tuple("".join(self.texts[choice]) for choice in sorted(self.texts))
        reasons = tuple(self.reasons.get(choice) for choice in sorted(self.texts))
        return Said(texts, reasons, tuple(self.calls), self.counts, tuple(self.scores))


# ── the APIs ──


@dataclass(frozen=True)
class Clients:
    """The official clients of one server."""

    openai: OpenAI
    anthropic: anthropic.Anthropic
    ollama: ollama.Client


def _chat_body(sends: Mapping[str, Any]) -> dict[str, Any]:
    limit = {} if "max_completion_tokens" in sends else {"max_tokens": SHORT}
    return {"model": "cria", "messages": HI, "temperature": 0, **limit, **sends}


def chat(clients: Clients, sends: Mapping[str, Any]) -> Said:
    reply = clients.openai.chat.completions.create(**_chat_body(sends))
    calls = [call for choice in reply.choices for call in choice.message.tool_calls or []]
    scores = [one.logprob for choice in reply.choices if choice.logprobs for one in choice.logprobs.content or []]
    assert reply.usage is not None
    return Said(
        tuple(choice.message.content or "" for choice in reply.choices),
        tuple(choice.finish_reason for choice in reply.choices),
        tuple((call.function.name, call.function.arguments) for call in calls),  # type: ignore[union-attr]
        (reply.usage.prompt_tokens, reply.usage.completion_tokens),
        tuple(scores),
    )


def chat_stream(clients: Clients, sends: Mapping[str, Any]) -> Said:
    options: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
    ask = {**_chat_body(sends), **options}
    gathered = Gathered()
    for chunk in clients.openai.chat.completions.create(**ask):
        for choice in chunk.choices:
            gathered.add(choice.delta.content, choice.index)
            gathered.scores += [one.logprob for one in (choice.logprobs and choice.logprobs.content) or []]
            gathered.calls += [(call.function.name, call.function.arguments) for call in choice.delta.tool_calls or []]
            if choice.finish_reason:
                gathered.reasons[choice.index] = choice.finish_reason
        if chunk.usage:
            gathered.counts = (chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
    return gathered.said()


def completion(clients: Clients, sends: Mapping[str, Any]) -> Said:
    reply = clients.openai.completions.create(**{**NUMBERS, **sends})
    scores = [one for choice in reply.choices if choice.logprobs for one in choice.logprobs.token_logprobs or []]
    assert reply.usage is not None
    return Said(
        tuple(choice.text for choice in reply.choices),
        tuple(choice.finish_reason for choice in reply.choices),
        (),
        (reply.usage.prompt_tokens, reply.usage.completion_tokens),
        tuple(scores),
    )


def completion_stream(clients: Clients, sends: Mapping[str, Any]) -> Said:
    options: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
    gathered = Gathered()
    ask = {**NUMBERS, **sends, **options}
    for chunk in clients.openai.completions.create(**ask):
        for choice in chunk.choices:
            gathered.add(choice.text, choice.index)
            gathered.scores += (choice.logprobs and choice.logprobs.token_logprobs) or []
            if choice.finish_reason:
                gathered.reasons[choice.index] = choice.finish_reason
        if chunk.usage:
            gathered.counts = (chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
    return gathered.said()


def _of_response(reply: Any) -> Said:
    reason = reply.incomplete_details.reason if reply.incomplete_details else reply.status
    parts = [part for item in reply.output if item.type == "message" for part in item.content]
    return Said(
        (reply.output_text,),
        (reason,),
        tuple((item.name, item.arguments) for item in reply.output if item.type == "function_call"),
        (reply.usage.input_tokens, reply.usage.output_tokens),
        tuple(one.logprob for part in parts for one in part.logprobs or []),
    )


def _response_body(sends: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments; sampling that this client does not know goes past it."""
    ours = {name: sends[name] for name in sends if name in SAMPLING}
    own = {"model": "cria", "input": "Hello!", "temperature": 0, "max_output_tokens": SHORT, **sends}
    return {name: own[name] for name in own if name not in ours} | {"extra_body": sends.get("extra_body", {}) | ours}


def response(clients: Clients, sends: Mapping[str, Any]) -> Said:
    return _of_response(clients.openai.responses.create(**_response_body(sends)))


def response_stream(clients: Clients, sends: Mapping[str, Any]) -> Said:
    events: list[Any] = list(clients.openai.responses.create(**_response_body(sends), stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    said = _of_response(events[-1].response)
    deltas = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert deltas == said.text
    return said


def _of_message(message: Any) -> Said:
    return Said(
        ("".join(block.text for block in message.content if block.type == "text"),),
        (message.stop_reason,),
        tuple((block.name, str(block.input)) for block in message.content if block.type == "tool_use"),
        (message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0), message.usage.output_tokens),
    )


def _message_body(sends: Mapping[str, Any]) -> dict[str, Any]:
    own = {"model": "cria", "messages": HI, "max_tokens": SHORT, **sends}
    return {**own, "extra_body": {"temperature": 0, **sends.get("extra_body", {})}}


def message(clients: Clients, sends: Mapping[str, Any]) -> Said:
    return _of_message(clients.anthropic.messages.create(**_message_body(sends)))


def message_stream(clients: Clients, sends: Mapping[str, Any]) -> Said:
    with clients.anthropic.messages.stream(**_message_body(sends)) as stream:
        return _of_message(stream.get_final_message())


def _of_ollama(parts: list[Any], texts: list[str]) -> Said:
    last = parts[-1]
    return Said(("".join(texts),), (last.done_reason,), (), (last.prompt_eval_count, last.eval_count))


def _with_options(sends: Mapping[str, Any]) -> dict[str, Any]:
    return {**sends, "options": {"temperature": 0, "num_predict": SHORT, **sends.get("options", {})}}


def ollama_chat(clients: Clients, sends: Mapping[str, Any]) -> Said:
    part = clients.ollama.chat(**{"model": "cria", "messages": HI, **_with_options(sends)})
    return _of_ollama([part], [part.message.content or ""])


def ollama_chat_stream(clients: Clients, sends: Mapping[str, Any]) -> Said:
    parts = list(clients.ollama.chat(**{"model": "cria", "messages": HI, **_with_options(sends)}, stream=True))
    return _of_ollama(parts, [part.message.content or "" for part in parts])


def generate(clients: Clients, sends: Mapping[str, Any]) -> Said:
    part = clients.ollama.generate(**{"model": "cria", "prompt": "Hello!", **_with_options(sends)})
    return _of_ollama([part], [part.response])


def generate_stream(clients: Clients, sends: Mapping[str, Any]) -> Said:
    parts = list(clients.ollama.generate(**{"model": "cria", "prompt": "Hello!", **_with_options(sends)}, stream=True))
    return _of_ollama(parts, [part.response for part in parts])


Ask = Callable[[Clients, Mapping[str, Any]], Said]
APIS: dict[str, tuple[Ask, Ask]] = {
    "chat": (chat, chat_stream),
    "completion": (completion, completion_stream),
    "response": (response, response_stream),
    "message": (message, message_stream),
    "ollama chat": (ollama_chat, ollama_chat_stream),
    "ollama generate": (generate, generate_stream),
}


# ── what must hold ──


def ends(*reasons: str) -> Callable[[Said], bool]:
    return lambda said: said.reasons == reasons


def writes(count: int) -> Callable[[Said], bool]:
    return lambda said: said.counts[1] == count


def scored(said: Said) -> bool:
    return bool(said.scores) and all(score <= 0 for score in said.scores)


def several(count: int) -> Callable[[Said], bool]:
    return lambda said: len(said.texts) == count and said.counts[1] >= count


def reads(at_least: int) -> Callable[[Said], bool]:
    return lambda said: said.counts[0] >= at_least


def extra(**fields: Any) -> dict[str, Any]:
    return {"extra_body": fields}


SAMPLED: dict[str, Row] = {
    "hot": Row({"temperature": 1.5, "seed": 4}),
    "seed": Row({"temperature": 1, "seed": 1}),
    "negative seed": Row({"temperature": 1, "seed": -1}),
    "largest seed": Row({"temperature": 1, "seed": 2**63 - 1}),
    "top_p": Row({"temperature": 1, "seed": 2, "top_p": 0.5}),
    "top_p 0": Row({"temperature": 1, "seed": 2, "top_p": 0}),
    "penalties": Row({"temperature": 1, "seed": 5, "presence_penalty": 1.5, "frequency_penalty": -0.5}),
    "logit_bias": Row({"logit_bias": {"300": -100, "301": 5}}),
    "top_k": Row({"temperature": 1, "seed": 3, **extra(top_k=2)}),
    "top_k off": Row({"temperature": 1, "seed": 3, **extra(top_k=-1)}),
    "min_p": Row({"temperature": 2, "seed": 3, **extra(min_p=0.2)}),
    "typical_p": Row({"temperature": 1, "seed": 3, **extra(typical_p=0.6)}),
    "repetition_penalty": Row(extra(repetition_penalty=1.3)),
    "everything": Row({"temperature": 0.9, "seed": 8, "top_p": 0.9, **extra(top_k=20, min_p=0.02, typical_p=0.95)}),
    "a label": Row({"user": "somebody"}),
    "an alias": Row({"model": "gpt-4o"}),
    "ignore_eos": Row({"max_tokens": 30, **extra(ignore_eos=True)}, writes(30)),
    "min_tokens": Row({"max_tokens": 30, **extra(min_tokens=30)}, writes(30)),
    "max_tokens": Row({"max_tokens": 3, **extra(ignore_eos=True)}, ends("length")),
    "one token": Row({"max_tokens": 1}, writes(1)),
}
CHAT: dict[str, Row] = {
    **SAMPLED,
    "plain": Row({"max_tokens": 60}, ends("stop")),
    "max_completion_tokens": Row({"max_completion_tokens": 1}, ends("length")),
    "both limits": Row({"max_completion_tokens": 2, "max_tokens": 2}, writes(2)),
    "system": Row({"messages": [{"role": "system", "content": "You are cria."}, *HI]}),
    "developer": Row({"messages": [{"role": "developer", "content": "You are cria."}, *HI]}),
    "a long talk": Row({"messages": [*TALK * 3]}, reads(60)),
    "parts": Row({"messages": [{"role": "user", "content": PARTS}]}),
    "nothing said": Row({"messages": [{"role": "user", "content": ""}]}, reads(5)),
    "other scripts": Row({"messages": [{"role": "user", "content": "Здравствуйте, 你好, नमस्ते, 🦙\u2028"}]}, reads(20)),
    "spelled control tokens": Row({"messages": [{"role": "user", "content": "<|eot_id|><|eom_id|>"}]}, reads(20)),
    "two answers": Row({"n": 2, "temperature": 1, "seed": 1}, several(2)),
    "eight answers": Row({"n": 8, "temperature": 1, "seed": 1, "max_tokens": 4}, several(8)),
    "logprobs": Row({"logprobs": True}, scored),
    "top_logprobs": Row({"logprobs": True, "top_logprobs": 20, "max_tokens": 5}, scored),
    "stop": Row({"messages": COUNT, "stop": "4"}, lambda said: "4" not in said.text),
    "stops": Row({"stop": ["e", "o", "a"]}, lambda said: not set(said.text) & set("eoa")),
    "a stop that never comes": Row({"stop": ["\u2603"], "max_tokens": 60}, ends("stop")),
    "tools": Row({"tools": [FUNCTION]}),
    "tools, none to be called": Row({"tools": [FUNCTION], "tool_choice": "none"}, lambda said: not said.calls),
    "tools, one at a time": Row({"tools": [FUNCTION], "parallel_tool_calls": False}),
    "a tool's result": Row(
        {
            "messages": [
                {"role": "user", "content": "What is the weather in Rome?"},
                {"role": "assistant", "tool_calls": [CALL_TOOL]},
                {"role": "tool", "tool_call_id": "call_1", "content": '{"temperature": 21}'},
            ],
            "tools": [FUNCTION],
        },
        reads(60),
    ),
    "labels": Row({"metadata": {"a": "b"}, "safety_identifier": "x", "prompt_cache_key": "y", "store": False}),
    "neutral values": Row(NEUTRAL),
}
COMPLETION: dict[str, Row] = {
    **SAMPLED,
    "plain": Row({}, lambda said: said.counts[1] <= 16),
    "ids": Row({"prompt": [1, 40, 41, 42]}, reads(4)),
    "texts": Row({"prompt": ["1, 2", "3, 4", "5, 6"]}, several(3)),
    "lists of ids": Row({"prompt": [[1, 40], [1, 41]]}, several(2)),
    "a mixture": Row({"prompt": ["1, 2", [1, 41]]}, several(2)),
    "no text": Row({"prompt": ""}, reads(1)),
    "spelled control tokens": Row({"prompt": "<|begin_of_text|>1, 2"}, reads(3)),
    "two answers to each": Row({"prompt": ["1, 2", "3, 4"], "n": 2, "temperature": 1, "seed": 1}, several(4)),
    "echo": Row({"echo": True}, lambda said: said.text.startswith("1, 2, 3")),
    "echo of texts": Row({"prompt": ["1, 2", "3, 4"], "echo": True}, lambda said: said.texts[1].startswith("3, 4")),
    "echo of ids": Row({"prompt": [1, 40], "echo": True}),
    "echo for two answers": Row({"echo": True, "n": 2}, lambda said: said.texts[1].startswith("1, 2, 3")),
    "echo alone": Row({"echo": True, "max_tokens": 0}, lambda said: (said.text, said.counts[1]) == ("1, 2, 3", 0)),
    "echo with scores": Row({"echo": True, "logprobs": 1, "max_tokens": 0}, scored),
    "logprobs": Row({"logprobs": 0}, scored),
    "five alternatives": Row({"logprobs": 5}, scored),
    "stop": Row({"stop": [","]}, lambda said: "," not in said.text),
    "suffix of nothing": Row({"suffix": ""}),
    "best_of n": Row({"n": 2, "best_of": 2, "temperature": 1, "seed": 2}, several(2)),
}
RESPONSE: dict[str, Row] = {
    **{name: row for name, row in SAMPLED.items() if "max_tokens" not in row.sends and name not in ("seed",)},
    "plain": Row({"max_output_tokens": 60}, ends("completed")),
    "max_output_tokens": Row({"max_output_tokens": 1}, ends("max_output_tokens")),
    "instructions": Row({"instructions": "You are cria."}, reads(20)),
    "items": Row({"input": TALK}, reads(30)),
    "parts": Row({"input": [{"role": "user", "content": [{"type": "input_text", "text": "Hello!"}]}]}),
    "tools": Row({"tools": [FLAT]}),
    "tools, none to be called": Row({"tools": [FLAT], "tool_choice": "none"}, lambda said: not said.calls),
    "a tool's result": Row(
        {
            "input": [
                {"role": "user", "content": "What is the weather in Rome?"},
                {"type": "function_call", "call_id": "c", "name": "get_weather", "arguments": '{"city": "Rome"}'},
                {"type": "function_call_output", "call_id": "c", "output": '{"temperature": 21}'},
            ]
        },
        reads(40),
    ),
    "logprobs": Row({"include": ["message.output_text.logprobs"], "top_logprobs": 2}, scored),
    "not stored": Row({"store": False}),
    "labels": Row({"metadata": {"a": "b"}, "user": "me", "safety_identifier": "x", "prompt_cache_key": "y"}),
}
NAMED: Any = {"name": TOOL["name"], "description": TOOL["description"], "input_schema": PARAMETERS}
MESSAGE: dict[str, Row] = {
    "plain": Row({"max_tokens": 60}, ends("end_turn")),
    "an alias": Row({"model": "claude-x"}),
    "max_tokens": Row({"max_tokens": 1}, ends("max_tokens")),
    "system": Row({"system": "You are cria."}, reads(20)),
    "system in blocks": Row({"system": SYSTEM}),
    "blocks": Row({"messages": [{"role": "user", "content": [{"type": "text", "text": "Hello!"}]}]}),
    "a long talk": Row({"messages": TALK}, reads(30)),
    "stop_sequences": Row({"messages": COUNT, "stop_sequences": ["4"], "max_tokens": 60}, ends("stop_sequence")),
    "top_p": Row(extra(top_p=0.5)),
    "top_k": Row(extra(top_k=5)),
    "top_k 1": Row(extra(top_k=1, temperature=1)),
    "tools": Row({"tools": [NAMED]}),
    "tools, none to be called": Row({"tools": [NAMED], "tool_choice": {"type": "none"}}, lambda said: not said.calls),
    "labels": Row({"metadata": {"user_id": "x"}, "service_tier": "auto"}),
    "no thinking": Row({"thinking": {"type": "disabled"}}),
    "earlier thoughts": Row(
        {
            "messages": [
                *HI,
                {"role": "assistant", "content": THOUGHT},
                *COUNT,
            ]
        },
        reads(30),
    ),
}
OPTIONS: dict[str, Row] = {
    "plain": Row({"options": {"num_predict": 60}}, ends("stop")),
    "an alias": Row({"model": "gpt-4o"}),
    "num_predict": Row({"options": {"num_predict": 1}}, ends("length")),
    "num_predict, no limit": Row({"options": {"num_predict": -1}}, ends("stop")),
    "seed": Row({"options": {"seed": 3, "temperature": 1}}),
    "top_k": Row({"options": {"seed": 3, "temperature": 1, "top_k": 2}}),
    "top_p": Row({"options": {"seed": 3, "temperature": 1, "top_p": 0.4}}),
    "min_p": Row({"options": {"seed": 3, "temperature": 1, "min_p": 0.4}}),
    "typical_p": Row({"options": {"seed": 3, "temperature": 1, "typical_p": 0.6}}),
    "penalties": Row({"options": {"repeat_penalty": 1.2, "presence_penalty": 0.5, "frequency_penalty": 0.5}}),
    "repeat_last_n": Row({"options": {"repeat_penalty": 1.2, "repeat_last_n": 8}}),
    "stop": Row({"options": {"stop": ["e"]}}, lambda said: "e" not in said.text),
    "an option of loading": Row({"options": {"num_ctx": 256, "num_gpu": 1}}),
    "keep_alive": Row({"keep_alive": "10m"}),
}
OLLAMA_CHAT: dict[str, Row] = {
    **OPTIONS,
    "system": Row({"messages": [{"role": "system", "content": "You are cria."}, *HI]}, reads(20)),
    "a long talk": Row({"messages": TALK}, reads(30)),
    "tools": Row({"messages": COUNT, "tools": [FUNCTION]}),
}
GENERATE: dict[str, Row] = {
    **OPTIONS,
    "system": Row({"system": "You are cria."}, reads(20)),
    "raw": Row({"prompt": "1, 2, 3", "raw": True, "options": {"num_predict": 5}}),
}
TABLES = {
    "chat": CHAT,
    "completion": COMPLETION,
    "response": RESPONSE,
    "message": MESSAGE,
    "ollama chat": OLLAMA_CHAT,
    "ollama generate": GENERATE,
}
ROWS = [(api, name) for api, table in TABLES.items() for name in table]


@pytest.fixture(scope="module")
def clients(cria_url: str) -> Iterator[Clients]:
    native = ollama.Client(host=cria_url)
    with (
        OpenAI(base_url=f"{cria_url}/v1", api_key="-", max_retries=0) as theirs,
        anthropic.Anthropic(base_url=cria_url, api_key="-", max_retries=0) as claude,
    ):
        yield Clients(theirs, claude, native)
    native._client.close()


@pytest.fixture(scope="module")
def whole(clients: Clients) -> Callable[[str, str], Said]:
    """Ask for the whole answer of a row, once."""
    known: dict[tuple[str, str], Said] = {}

    def ask(api: str, name: str) -> Said:
        if (api, name) not in known:
            known[api, name] = APIS[api][0](clients, TABLES[api][name].sends)
        return known[api, name]

    return ask


@pytest.mark.parametrize(("api", "name"), ROWS)
def test_a_whole_answer_is_what_the_row_asks_for(whole: Callable[[str, str], Said], api: str, name: str) -> None:
    said = whole(api, name)
    assert TABLES[api][name].holds(said), said


@pytest.mark.parametrize(("api", "name"), ROWS)
def test_a_stream_says_what_the_whole_answer_says(
    clients: Clients, whole: Callable[[str, str], Said], api: str, name: str
) -> None:
    assert APIS[api][1](clients, TABLES[api][name].sends) == whole(api, name)


def test_a_conversation_by_id_is_the_conversation_sent_whole(clients: Clients) -> None:
    create = clients.openai.responses.create
    first = create(model="cria", input="Hello!", temperature=0)
    by_id = create(model="cria", input="What is 17 + 25?", temperature=0, previous_response_id=first.id)
    sent: Any = [*HI, *first.output, *COUNT]
    in_full = create(model="cria", input=sent, temperature=0)
    assert by_id.output_text == in_full.output_text
    assert by_id.usage is not None
    assert in_full.usage is not None
    assert by_id.usage.input_tokens == in_full.usage.input_tokens
