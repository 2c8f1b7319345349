"""From a body of the Responses API to the request that the runtime understands, and to what is written back.

Where the API asks for what chat asks for under another name, it is put to chat's own reading of it, so that there is
one rule for tools, formats and sampling; errors name the fields of this API. Nothing here knows HTTP, the store or the
runtime.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from camelid.errors import InvalidRequest
from camelid.types import ChatRequest, Generation, Message, Sampling

from ...limits import Limits
from ..bodies import ChatBody, Function, Tool, UserMessage
from ..refusals import refuse_fields
from ..requests import PLAIN, to_chat_request
from .bodies import CountBody, FunctionTool, ResponseBody

SCORES = "message.output_text.logprobs"
# What may be asked for on top. The second is there whenever the model has thought: nothing is encrypted here.
INCLUDABLE = (SCORES, "reasoning.encrypted_content")
MAX_METADATA = 16  # OpenAI's bounds: entries, characters of a key, characters of a value
MAX_METADATA_KEY = 64
MAX_METADATA_VALUE = 512

_SHARED = (
    *("temperature", "top_p", "stop", "seed", "presence_penalty", "frequency_penalty", "logit_bias", "top_k", "min_p"),
    *("typical_p", "repetition_penalty", "min_tokens", "ignore_eos", "parallel_tool_calls"),
)
# What chat calls a field that has another name here.
_RENAMED = (
    (re.compile(r"tools\[(\d+)\]\.function"), r"tools[\1]"),
    (re.compile(r"response_format(\.json_schema)?"), "text.format"),
    (re.compile(r"tool_choice\.function"), "tool_choice"),
    (re.compile(r"max_completion_tokens|max_tokens"), "max_output_tokens"),
)

# Fields that are accepted in the values that ask for nothing special, and refused in any other.
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "background": (False,),
    "effort": ("none",),
    "include_obfuscation": (False,),
    "prompt_cache_retention": ("in_memory",),
    "service_tier": ("auto", "default"),
    "truncation": ("disabled",),
    "verbosity": ("medium",),
}

# Fields that cannot be honoured at all, with what to do instead where there is something.
REFUSED: Mapping[str, str | None] = {
    "access_programs": None,
    "context_management": None,
    "conversation": "name the last response in previous_response_id",
    "generate_summary": None,
    "image": None,
    "moderation": None,
    "personality": "say it in instructions",
    "prompt": "send its text in input",
    "prompt_cache_options": "prefixes are cached without being asked",
    "summary": None,
}


@dataclass(frozen=True)
class ResponseForm:
    """How the response is to be written: what of the body is the dialect's business and not the model's.

    `echo` is what of the request a response repeats.
    """

    model: str
    echo: Mapping[str, Any]
    stream: bool = False
    logprobs: bool = False
    parallel_calls: bool = True
    is_stored: bool = True


def to_request(
    body: ResponseBody, conversation: Sequence[Message], model: str, seed: int, limits: Limits, recommended: Sampling
) -> ChatRequest:
    """Return what `body` asks of `model` behind a `conversation` (earlier turns and the input, no instructions).

    `seed` is used when the body brings none. Raises InvalidRequest naming the field.
    """
    refuse_fields(body, REFUSED, NEUTRAL)
    _check_metadata(body.metadata)
    if body.stream_options is not None:
        if not body.stream:
            raise InvalidRequest("stream_options needs stream to be true", field="stream_options")
        refuse_fields(body.stream_options, REFUSED, NEUTRAL, "stream_options.")
    if body.max_tool_calls is not None and body.max_tool_calls < 1:
        raise InvalidRequest(f"max_tool_calls must be at least 1, got {body.max_tool_calls}", field="max_tool_calls")
    shared = {name: getattr(body, name) for name in _SHARED}
    wants_scores = _wants_scores(body)
    return _ask(
        body,
        ChatBody(
            messages=[],
            max_completion_tokens=body.max_output_tokens,
            logprobs=wants_scores or None,
            top_logprobs=body.top_logprobs if wants_scores else None,
            **shared,
        ),
        conversation,
        model,
        seed,
        limits,
        recommended,
    )


def to_prompt(body: CountBody, conversation: Sequence[Message], model: str, limits: Limits) -> ChatRequest:
    """Return the prompt of `body`, whose tokens are to be counted. Raises InvalidRequest naming the field."""
    refuse_fields(body, REFUSED, NEUTRAL)
    return _ask(body, ChatBody(messages=[]), conversation, model, 0, limits, PLAIN)


def form(body: ResponseBody, model: str, ask: ChatRequest) -> ResponseForm:
    """Return how the response to `body` is written; `model` is the name that it shows."""
    wants_scores = _wants_scores(body)
    return ResponseForm(
        model=model,
        echo=_echo(body, ask),
        stream=bool(body.stream),
        logprobs=wants_scores,
        parallel_calls=body.parallel_tool_calls is not False,
        is_stored=body.store is not False,
    )


def _ask(
    body: ResponseBody | CountBody,
    chat: ChatBody,
    conversation: Sequence[Message],
    model: str,
    seed: int,
    limits: Limits,
    recommended: Sampling,
) -> ChatRequest:
    """Return a conversation with what `body` and chat's reading of the rest say."""
    if body.reasoning is not None:
        refuse_fields(body.reasoning, REFUSED, NEUTRAL, "reasoning.")
    if not 1 <= len(conversation) <= limits.messages:
        raise InvalidRequest(f"input must have 1–{limits.messages} items, got {len(conversation)}", field="input")
    chat.messages = [UserMessage(content="")]  # ours are read already
    chat.tools = [_tool(tool) for tool in body.tools or []]
    chat.tool_choice = _tool_choice(body.tool_choice)
    chat.response_format = _format(body)
    try:
        ask = to_chat_request(chat, model, seed, limits, recommended)
    except InvalidRequest as error:
        raise _renamed(error) from error
    system = (Message("system", body.instructions),) if body.instructions else ()
    return replace(ask, messages=(*system, *conversation), generation=_with_our_names(ask.generation))


def _with_our_names(generation: Generation) -> Generation:
    """Return what is asked of an answer, with the name that its form has here: it may be refused later on."""
    grammar = generation.grammar
    if grammar is None:
        return generation
    return replace(generation, grammar=replace(grammar, field=_rename(grammar.field)))


def _tool(tool: FunctionTool) -> Tool:
    function = Function(
        name=tool.name, description=tool.description, parameters=tool.parameters, strict=tool.strict or None
    )
    return Tool(type="function", function=function)


def _tool_choice(choice: str | dict[str, Any] | None) -> str | dict[str, Any] | None:
    """Return the choice as chat writes it: a function is named one level deeper there."""
    if isinstance(choice, dict) and choice.get("type") == "function" and set(choice) == {"type", "name"}:
        return {"type": "function", "function": {"name": choice["name"]}}
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools" and set(choice) == {"type", "mode", "tools"}:
        tools = [_tool_choice(tool) for tool in choice["tools"]] if isinstance(choice["tools"], list) else None
        return {"type": "allowed_tools", "allowed_tools": {"mode": choice["mode"], "tools": tools}}
    return choice


def _format(body: ResponseBody | CountBody) -> dict[str, Any] | None:
    """Return the format as chat writes it: a schema lies one level deeper there."""
    if body.text is None:
        return None
    refuse_fields(body.text, REFUSED, NEUTRAL, "text.")
    given = body.text.format
    if given is not None and given.get("type") == "json_schema":
        return {
            "type": "json_schema",
            "json_schema": {name: value for name, value in given.items() if name != "type"},
        }
    return given


def _wants_scores(body: ResponseBody) -> bool:
    for index, wanted in enumerate(body.include or []):
        if wanted not in INCLUDABLE:
            allowed = " or ".join(map(repr, INCLUDABLE))
            field = f"include[{index}]"
            raise InvalidRequest(f"{field} must be {allowed}, got {wanted[:80]!r}", field=field)
    return SCORES in (body.include or []) or bool(body.top_logprobs)


def _check_metadata(metadata: Mapping[str, str] | None) -> None:
    if metadata is None:
        return
    if len(metadata) > MAX_METADATA:
        raise InvalidRequest(
            f"metadata must have at most {MAX_METADATA} entries, got {len(metadata)}", field="metadata"
        )
    for key, value in metadata.items():
        if len(key) > MAX_METADATA_KEY or len(value) > MAX_METADATA_VALUE:
            raise InvalidRequest(
                f"metadata must have keys of at most {MAX_METADATA_KEY} characters and values of at most "
                f"{MAX_METADATA_VALUE}, got {len(key)} and {len(value)}",
                field="metadata",
            )


def _renamed(error: InvalidRequest) -> InvalidRequest:
    """Return chat's refusal with the names that the fields have here."""
    field = None if error.field is None else _rename(error.field)
    return InvalidRequest(_rename(error.message), field=field, hint=error.hint)


def _rename(text: str) -> str:
    for theirs, ours in _RENAMED:
        text = theirs.sub(ours, text)
    return text


def _echo(body: ResponseBody, ask: ChatRequest) -> dict[str, Any]:
    """Return what of the request a response repeats, with the defaults that were filled in."""
    sampling = ask.generation.sampling
    tools = [_tool_card(tool) for tool in body.tools or []]
    return {
        "background": False,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "metadata": body.metadata or {},
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id,
        "prompt_cache_key": body.prompt_cache_key,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": body.safety_identifier,
        "service_tier": "default",
        "store": body.store is not False,
        "temperature": sampling.temperature,
        "text": {"format": (body.text and body.text.format) or {"type": "text"}, "verbosity": "medium"},
        "tool_choice": body.tool_choice or "auto",
        "tools": tools,
        "top_logprobs": body.top_logprobs or 0,
        "top_p": sampling.top_p,
        "truncation": "disabled",
        "user": body.user,
    }


def _tool_card(tool: FunctionTool) -> dict[str, Any]:
    card: dict[str, Any] = {"type": "function", "name": tool.name, "description": tool.description}
    return {**card, "parameters": tool.parameters or {}, "strict": bool(tool.strict)}
