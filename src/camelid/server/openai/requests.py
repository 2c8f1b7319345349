"""From a typed body to the request that the runtime understands. All checking ends here.

Every field is honoured, or has no effect by its nature (a label), or is refused by name: nothing is left out in
silence. Sampling that a body leaves out is as the model's makers recommend; every other default is OpenAI's. Nothing
here knows HTTP or the runtime.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from camelid.errors import InvalidRequest
from camelid.runtime.rule_parameters import beams_of, rules_of
from camelid.types import (
    ChatRequest,
    Generation,
    Message,
    Role,
    Sampling,
    Stopping,
    ToolCall,
    ToolSpec,
)

from ..decode import check_depth
from ..limits import Limits
from . import bodies
from .bodies import ChatBody, CompletionBody
from .formats import answer_grammar, tool_choice
from .refusals import refuse_fields

_SAMPLING = (
    *("temperature", "top_k", "top_p", "min_p", "typical_p", "repetition_penalty"),
    *("presence_penalty", "frequency_penalty", "logit_bias"),
)
PLAIN = Sampling()  # the model's distribution as it is

_NAME = re.compile(r"^[a-zA-Z0-9_-]{1,64}$")  # OpenAI's rule for the names of functions

# Fields that are accepted in the values that ask for nothing special, and refused in any other.
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "modalities": (["text"],),
    "prompt_cache_retention": ("in_memory",),
    "reasoning_effort": ("none",),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "verbosity": ("medium",),
    "annotations": ([],),
    "include_obfuscation": (False,),
}

# Fields that cannot be honoured at all, with what to do instead where there is something.
REFUSED: Mapping[str, str | None] = {
    "audio": None,
    "function_call": "use tool_choice",
    "functions": "use tools",
    "moderation": None,
    "prediction": None,
    "prompt_cache_options": "prefixes are cached without being asked",
    "web_search_options": None,
    "refusal": None,
    "reasoning_content": None,
    "name": "put the speaker's name into the content",
}


@dataclass(frozen=True)
class Form:
    """How the reply is to be written: what of the body is the dialect's business and not the model's."""

    model: str
    stream: bool = False
    include_usage: bool = False
    num_choices: int = 1
    logprobs: bool = False
    parallel_calls: bool = True
    echo: bool = False  # each answer begins with its prompt
    best_of: int = 1  # answers that are written for each prompt; the `num_choices` best are shown
    shows_answer: bool = True  # False: the prompt alone is wanted


def to_chat_request(
    body: ChatBody, model: str, seed: int, limits: Limits, recommended: Sampling = PLAIN
) -> ChatRequest:
    """Return what `body` asks of `model`.

    `seed` is used when the body brings none. Raises InvalidRequest naming the field.
    """
    _refuse_fields(body)
    if not 1 <= len(body.messages) <= limits.messages:
        raise InvalidRequest(
            f"messages must have 1–{limits.messages} entries, got {len(body.messages)}", field="messages"
        )
    tools, choice = tool_choice(body, _tools(body, limits))
    return ChatRequest(
        model=model,
        messages=_messages(body.messages),
        tools=tools,
        tool_choice=choice,
        generation=to_generation(
            body, seed, recommended, _chat_max_tokens(body), _chat_top_logprobs(body), _or(body.n, 1)
        ),
        continues_last=_continues(body),
    )


def chat_form(body: ChatBody, model: str) -> Form:
    """Return how the reply to `body` is written; `model` is the name that it shows."""
    return Form(
        model=model,
        stream=bool(body.stream),
        include_usage=include_usage(body),
        num_choices=body.n or 1,
        logprobs=bool(body.logprobs),
        parallel_calls=body.parallel_tool_calls is not False,
    )


def to_generation(
    body: ChatBody | CompletionBody,
    seed: int,
    recommended: Sampling,
    max_tokens: int | None,
    top: int | None,
    num_choices: int,
) -> Generation:
    """Return what chat and plain completion ask for in the same words.

    Several beams search, and draw only where `do_sample` is true; `do_sample` false takes the likeliest token.
    """
    rules = rules_of(body)
    beams = beams_of(body, samples=bool(body.do_sample))
    sampling = _sampling(body, seed, recommended)
    if beams is None and body.do_sample is False:
        sampling = replace(sampling, temperature=0.0)
    return Generation(
        sampling=sampling,
        stopping=Stopping(
            max_tokens=max_tokens,
            min_tokens=_or(body.min_tokens, 0),
            stop=(body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ()),
            ignore_eos=bool(body.ignore_eos),
        ),
        num_choices=num_choices,
        top_logprobs=top,
        grammar=answer_grammar(body),
        rules=None if rules.is_plain else rules,
        beams=beams,
    )


def _sampling(body: ChatBody | CompletionBody, seed: int, recommended: Sampling) -> Sampling:
    """Return what the body asks for; what it leaves out is as the model's makers recommend."""
    given = {name: getattr(body, name) for name in _SAMPLING if getattr(body, name) is not None}
    if body.top_k == -1:
        given["top_k"] = 0  # -1 switches it off in other servers
    return replace(recommended, **given, seed=(recommended.seed or seed) if body.seed is None else _unsigned(body.seed))


def _unsigned(seed: int) -> int:
    """Map OpenAI's signed seeds onto ours, each to one of its own."""
    return seed % 2**64 if -(2**63) <= seed < 0 else seed


def _chat_max_tokens(body: ChatBody) -> int | None:
    if None not in (body.max_tokens, body.max_completion_tokens) and body.max_tokens != body.max_completion_tokens:
        raise InvalidRequest("max_tokens and max_completion_tokens differ: give one of them", field="max_tokens")
    return body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens


def _chat_top_logprobs(body: ChatBody) -> int | None:
    if body.logprobs:
        return body.top_logprobs or 0
    if body.top_logprobs:
        raise InvalidRequest("top_logprobs needs logprobs to be true", field="top_logprobs")
    return None


def include_usage(body: ChatBody | CompletionBody) -> bool:
    """Tell whether a stream is to end with the usage. Raises InvalidRequest naming the field."""
    if body.stream_options is None:
        return False
    if not body.stream:
        raise InvalidRequest("stream_options needs stream to be true", field="stream_options")
    _refuse_fields(body.stream_options, "stream_options.")
    return bool(body.stream_options.include_usage)


def _messages(given: list[bodies.Message]) -> tuple[Message, ...]:
    called: dict[str, str] = {}  # id of each call → name of its function
    messages = []
    for index, message in enumerate(given):
        place = f"messages[{index}]"
        if isinstance(message, bodies.ToolMessage):
            messages.append(_tool_message(message, called, place))
            continue
        _refuse_fields(message, f"{place}.")
        if isinstance(message, bodies.AssistantMessage):
            messages.append(_assistant_message(message, place))
            called.update((call.id, call.name) for call in messages[-1].tool_calls)
        else:
            role: Role = "user" if isinstance(message, bodies.UserMessage) else "system"
            messages.append(Message(role, _text(message.content, place)))
    return tuple(messages)


def _assistant_message(message: bodies.AssistantMessage, place: str) -> Message:
    calls = message.tool_calls or []
    if message.content is None and not calls:
        raise InvalidRequest(f"{place} must have content or tool_calls", field=f"{place}.content")
    return Message(
        "assistant",
        "" if message.content is None else _text(message.content, place),
        tool_calls=tuple(ToolCall(call.id, call.function.name, call.function.arguments) for call in calls),
    )


def _tool_message(message: bodies.ToolMessage, called: Mapping[str, str], place: str) -> Message:
    name = called.get(message.tool_call_id)
    if name is None or message.name not in (None, name):
        field = f"{place}.tool_call_id" if name is None else f"{place}.name"
        given = message.tool_call_id if name is None else message.name
        raise InvalidRequest(f"{field} is {given!r}, which no earlier call of the assistant has", field=field)
    return Message("tool", _text(message.content, place), tool_call_id=message.tool_call_id, name=name)


def _text(content: bodies.Content, place: str) -> str:
    if isinstance(content, str):
        return content
    texts = []
    for index, part in enumerate(content):
        if not isinstance(part, bodies.TextPart):
            kind = part.__struct_config__.tag
            raise InvalidRequest(
                f"{place}.content[{index}] has the type {kind!r}; the model reads only 'text'",
                field=f"{place}.content[{index}].type",
            )
        texts.append(part.text)
    return "".join(texts)


def _continues(body: ChatBody) -> bool:
    """Say whether the answer goes on with the last message; it then has no beginning of its own."""
    continues = bool(body.continue_final_message)
    if body.add_generation_prompt is not None and body.add_generation_prompt is continues:
        raise InvalidRequest(
            "one of continue_final_message and add_generation_prompt must be true, and only one",
            field="add_generation_prompt",
        )
    return continues


def _tools(body: ChatBody, limits: Limits) -> tuple[ToolSpec, ...]:
    tools = body.tools or []
    if len(tools) > limits.tools:
        raise InvalidRequest(f"tools must have at most {limits.tools} entries, got {len(tools)}", field="tools")
    specs = tuple(_tool(tool.function, f"tools[{index}].function", limits) for index, tool in enumerate(tools))
    names = [spec.name for spec in specs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidRequest(f"tools has the function {twice!r} twice", field="tools")
    return specs


def _tool(function: bodies.Function, place: str, limits: Limits) -> ToolSpec:
    if not _NAME.match(function.name):
        raise InvalidRequest(
            f"{place}.name must be 1–64 letters, digits, _ or -, got {function.name!r}", field=f"{place}.name"
        )
    check_depth(function.parameters, limits.json_depth, f"{place}.parameters")
    return ToolSpec(function.name, function.description or "", function.parameters or {}, bool(function.strict))


def _refuse_fields(body: Any, place: str = "") -> None:
    refuse_fields(body, REFUSED, NEUTRAL, place)


def _or(value: Any, default: Any) -> Any:
    """Return `value`, or the default for null; 0 is a value."""
    return default if value is None else value
