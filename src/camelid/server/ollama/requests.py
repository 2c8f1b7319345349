"""From a typed body to the request that the runtime understands. Nothing here knows HTTP or the runtime.

What Camelid does not do is refused by name; what Ollama itself passes over (an unknown option) is passed over here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from camelid.errors import InvalidRequest
from camelid.runtime.rule_parameters import RuleParameters, beams_of, rules_of
from camelid.settings import parse_duration
from camelid.types import (
    ChatRequest,
    CompletionRequest,
    Generation,
    Grammar,
    Message,
    Sampling,
    Stopping,
    ToolCall,
    ToolSpec,
    ends_open,
)

from ..decode import check_depth, convert
from ..limits import Limits
from .bodies import ChatBody, GenerateBody
from .bodies import Message as MessageBody

MAX_TOP_LOGPROBS = 20
_SAMPLING = {
    "temperature": "temperature",
    "top_p": "top_p",
    "min_p": "min_p",
    "typical_p": "typical_p",
    "repeat_penalty": "repetition_penalty",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}
_ROLES = ("system", "user", "assistant", "tool")


def to_chat_request(body: ChatBody, model: str, seed: int, sampling: Sampling, limits: Limits) -> ChatRequest:
    """Return what `body` asks of `model`, whose own sampling is `sampling`. Raises InvalidRequest naming the field."""
    _refuse(body)
    given = body.messages or []
    if len(given) > limits.messages:
        raise InvalidRequest(
            f"messages must have at most {limits.messages} entries, got {len(given)}", field="messages"
        )
    messages = tuple(_message(message, f"messages[{index}]") for index, message in enumerate(given))
    return ChatRequest(
        model,
        messages,
        _tools(body, limits),
        _generation(body, seed, sampling, limits),
        continues_last=ends_open(messages),
    )


def to_generate_request(
    body: GenerateBody, model: str, seed: int, sampling: Sampling, limits: Limits
) -> ChatRequest | CompletionRequest:
    """Return what `body` asks of `model`: with the chat template, with one of its own, or without any (`raw`).

    With a suffix it is the text between the two. Raises InvalidRequest.
    """
    _refuse(body)
    if body.images:
        raise InvalidRequest("images is not supported: the model reads only text", field="images")
    generation = _generation(body, seed, sampling, limits)
    if body.raw:
        if body.system or body.template or body.context:
            raise InvalidRequest("raw mode does not support template, system, or context", field="raw")
        return CompletionRequest(model, body.prompt, generation)
    if body.suffix:
        if body.context:
            raise InvalidRequest("context has no meaning beside suffix", field="context")
        return CompletionRequest(model, body.prompt, generation, body.suffix, template=body.template or None)
    system = (Message("system", body.system),) if body.system else ()
    messages = (*system, Message("user", body.prompt))
    return ChatRequest(model, messages, (), generation, body.template or None, before=tuple(body.context or ()))


def keep_alive_s(given: float | str | None) -> float | None:
    """Return seconds, infinite for a negative time, None where nothing is asked for. Raises InvalidRequest."""
    if given is None or isinstance(given, (int, float)):
        return math.inf if given is not None and given < 0 else given
    try:
        return parse_duration(given)
    except ValueError as error:
        raise InvalidRequest(f'time: invalid duration "{given[:50]}"', field="keep_alive") from error


def _message(message: MessageBody, place: str) -> Message:
    role = message.role.lower()
    if role not in _ROLES:
        raise InvalidRequest(
            f"{place}.role must be one of {', '.join(_ROLES)}, got {role[:40]!r}", field=f"{place}.role"
        )
    if message.images:
        raise InvalidRequest(f"{place}.images is not supported: the model reads only text", field=f"{place}.images")
    calls = tuple(
        ToolCall(
            call.id or f"call_{index}", call.function.name, json.dumps(call.function.arguments, ensure_ascii=False)
        )
        for index, call in enumerate(message.tool_calls or ())
    )
    return Message(role, message.content, calls, message.tool_call_id, message.tool_name)  # type: ignore[arg-type]


def _json(arguments: Mapping[str, Any]) -> str:
    return json.dumps(arguments, ensure_ascii=False)


def _tools(body: ChatBody, limits: Limits) -> tuple[ToolSpec, ...]:
    tools = body.tools or []
    if len(tools) > limits.tools:
        raise InvalidRequest(f"tools must have at most {limits.tools} entries, got {len(tools)}", field="tools")
    for index, tool in enumerate(tools):
        check_depth(tool.function.parameters, limits.json_depth, f"tools[{index}].function.parameters")
    return tuple(ToolSpec(tool.function.name, tool.function.description, tool.function.parameters) for tool in tools)


def _refuse(body: ChatBody | GenerateBody) -> None:
    if body.think not in (None, False):
        raise InvalidRequest(f"{body.model!r} does not support thinking", field="think")
    if not 0 <= body.top_logprobs <= MAX_TOP_LOGPROBS:
        raise InvalidRequest(f"top_logprobs must be between 0 and {MAX_TOP_LOGPROBS}", field="top_logprobs")


def _generation(body: ChatBody | GenerateBody, seed: int, sampling: Sampling, limits: Limits) -> Generation:
    options = body.options or {}
    given: dict[str, Any] = {ours: _float(options, theirs) for theirs, ours in _SAMPLING.items() if theirs in options}
    whole: dict[str, Any] = {name: _int(options, name) for name in ("top_k",) if name in options}
    if "repeat_last_n" in options:
        window = _int(options, "repeat_last_n")
        whole["penalty_window"] = None if window < 0 else window
    asked = _int(options, "seed") if "seed" in options else -1
    whole["seed"] = (sampling.seed or seed) if asked == -1 else asked % 2**64
    most = _int(options, "num_predict") if "num_predict" in options else -1
    extended = _extended(options)
    rules = rules_of(extended)
    beams = beams_of(extended, samples=bool(extended.do_sample))
    if beams is None and extended.do_sample is False:
        given["temperature"] = 0.0
    return Generation(
        replace(sampling, **given, **whole),
        Stopping(max_tokens=most if most > 0 else None, stop=_stops(options)),
        top_logprobs=body.top_logprobs if body.logprobs else None,
        grammar=_grammar(body.format, limits),
        rules=None if rules.is_plain else rules,
        beams=beams,
    )


def _extended(options: Mapping[str, Any]) -> RuleParameters:
    """Return the options that are not Ollama's but Transformers'."""
    named = {name: options[name] for name in RuleParameters.__struct_fields__ if name in options}
    found: RuleParameters = convert(named, RuleParameters, "options")
    return found


def _grammar(given: Any, limits: Limits) -> Grammar | None:
    """Return what an answer must be: any JSON object, or what a schema describes, to the letter."""
    if given is None or given == "":
        return None
    if given == "json":
        return Grammar.json_object("format")
    if not isinstance(given, dict):
        raise InvalidRequest('invalid format: expected "json" or a valid JSON Schema object', field="format")
    check_depth(given, limits.json_depth, "format")
    return Grammar.schema(given, "format")


def _stops(options: Mapping[str, Any]) -> tuple[str, ...]:
    stops = options.get("stop") or []
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise InvalidRequest('option "stop" must be of type an array of strings', field="options.stop")
    return tuple(stop for stop in stops if stop)


def _float(options: Mapping[str, Any], name: str) -> float:
    value = options[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidRequest(f'option "{name}" must be of type float32', field=f"options.{name}")
    return float(value)


def _int(options: Mapping[str, Any], name: str) -> int:
    value = options[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value):
        raise InvalidRequest(f'option "{name}" must be of type integer', field=f"options.{name}")
    return int(value)
