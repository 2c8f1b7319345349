"""What Anthropic's routes answer, as types, for the OpenAPI document."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from ..bounds import BOUNDS
from ..described import Describer, Rules
from ..sse import MEDIA_TYPE


class _Shape(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Strict: there are no other fields."""


class Error(_Shape):
    """What went wrong."""

    type: str
    message: str


class ErrorReply(_Shape):
    """The envelope of errors."""

    type: Literal["error"]
    error: Error


class TextOut(_Shape, tag="text"):
    """What was said."""

    text: str


class ToolUseOut(_Shape, tag="tool_use"):
    """A tool that is to be called."""

    id: str
    name: str
    input: Any


class Usage(_Shape):
    """What was counted; cached tokens are not part of the input."""

    input_tokens: int
    cache_read_input_tokens: int
    cache_creation_input_tokens: int
    output_tokens: int


class StopDetails(_Shape):
    """Why the answer was refused."""

    type: Literal["refusal"]
    category: None
    explanation: str


class MessageReply(_Shape):
    """The assistant's message."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[TextOut | ToolUseOut]
    stop_reason: Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"] | None
    stop_sequence: str | None
    usage: Usage
    stop_details: StopDetails | None = None


class CountReply(_Shape):
    """How many tokens a prompt has."""

    input_tokens: int


SHAPES = (MessageReply, CountReply)
BOUNDED = {**BOUNDS, "temperature": {"minimum": 0, "maximum": 1}, "max_tokens": {"minimum": 1}, "top_k": {"minimum": 0}}
ANTHROPIC = Describer("Anthropic", ErrorReply, MEDIA_TYPE, Rules(BOUNDED))
