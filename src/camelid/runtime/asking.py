"""What a caller of the library writes, turned into requests: parameters by name, messages, prompts.

Apart from the models that it is asked of, because the blocking one and the asynchronous one ask in the same words.
Nothing here waits.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypedDict

from camelid.errors import InvalidRequest
from camelid.rules import Beams, Rules
from camelid.types import (
    ChatRequest,
    Generation,
    Grammar,
    Message,
    Sampling,
    Stopping,
    ToolChoice,
    ToolSpec,
)

from .plain_values import to_message, to_tool

Said = str | Sequence[Message | Mapping[str, Any]]


class Parameters(TypedDict, total=False):
    """What may be asked of an answer, by name; see `Sampling`, `Stopping` and `Generation` for what each does.

    What is left out is as the model's makers recommend. Without a seed each answer is drawn with a new one. `format` is
    "json", a JSON schema or a `Grammar`: what the answer must be.
    """

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    typical_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    penalty_window: int | None
    logit_bias: Mapping[int, float]
    seed: int
    max_tokens: int | None
    min_tokens: int
    stop: str | Sequence[str]
    ignore_eos: bool
    num_choices: int
    top_logprobs: int | None
    rules: Rules | None
    beams: Beams | None
    format: str | Mapping[str, Any] | Grammar | None


def chat_request(
    model: str,
    messages: Said,
    tools: Sequence[ToolSpec | Mapping[str, Any]],
    choice: ToolChoice | None,
    generation: Generation,
) -> ChatRequest:
    """Return a conversation to be continued: a question, or messages as OpenAI's API writes them or as values."""
    conversation = [Message("user", messages)] if isinstance(messages, str) else map(to_message, messages)
    return ChatRequest(
        model, tuple(conversation), tuple(map(to_tool, tools)), generation, tool_choice=choice or ToolChoice()
    )


def generation_of(parameters: Mapping[str, Any], recommended: Sampling) -> Generation:
    """Return what `parameters` ask for, on top of what the model's makers recommend. Raises InvalidRequest."""
    given = dict(parameters)
    given["stop"] = (given["stop"],) if isinstance(given.get("stop"), str) else tuple(given.get("stop", ()))
    given.setdefault("seed", new_seed(recommended))
    given["grammar"] = _grammar(given.pop("format", None))
    sampling, stopping, rest = (
        {name: given.pop(name) for name in list(given) if name in kind.__dataclass_fields__}
        for kind in (Sampling, Stopping, Generation)
    )
    for name in given:
        raise InvalidRequest(f"there is no parameter {name!r}", field=name)
    return Generation(replace(recommended, **sampling), Stopping(**stopping), **rest)


def new_seed(recommended: Sampling) -> int:
    """Return the seed of an answer for which none is given: a new one, unless the makers say one."""
    return recommended.seed or secrets.randbits(63)


def _grammar(given: str | Mapping[str, Any] | Grammar | None) -> Grammar | None:
    if isinstance(given, str):
        if given != "json":
            raise InvalidRequest(
                f"format must be 'json', a JSON schema or a Grammar, got {given[:40]!r}", field="format"
            )
        return Grammar.json_object("format")
    return given if given is None or isinstance(given, Grammar) else Grammar.schema(dict(given), "format")
