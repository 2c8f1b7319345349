"""What the routes of the Responses API answer, as types, for the OpenAPI document (see `openai/shapes.py`)."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from ...verdicts import VerdictOut
from ..shapes import ScoredToken
from .bodies import Status


class _Shape(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Strict: there are no other fields."""


class TextOut(_Shape, tag_field="type", tag="output_text"):
    """What was said."""

    text: str
    annotations: list[Any]
    logprobs: list[ScoredToken]


class ThoughtOut(_Shape, tag_field="type", tag="reasoning_text"):
    """What was thought."""

    text: str


class MessageOut(_Shape, tag_field="type", tag="message"):
    """An item of text."""

    id: str
    status: Status
    role: Literal["assistant"]
    content: list[TextOut]


class CallOut(_Shape, tag_field="type", tag="function_call"):
    """An item that calls a function."""

    id: str
    status: Status
    call_id: str
    name: str
    arguments: str


class ReasoningOut(_Shape, tag_field="type", tag="reasoning"):
    """An item of thoughts."""

    id: str
    status: Status
    summary: list[Any]
    content: list[ThoughtOut]


class FailureOut(_Shape):
    """Why a response failed."""

    code: str
    message: str


class IncompleteOut(_Shape):
    """Why a response is not complete."""

    reason: Literal["max_output_tokens", "content_filter"]


class InputDetails(_Shape):
    """What the cache had of the input."""

    cached_tokens: int
    cache_write_tokens: int


class OutputDetails(_Shape):
    """What of the output was thought."""

    reasoning_tokens: int


class ResponseUsage(_Shape):
    """What was counted."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class ResponseOut(_Shape):
    """A response, with what was asked."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["completed", "incomplete", "in_progress", "failed"]
    error: FailureOut | None
    incomplete_details: IncompleteOut | None
    model: str
    output: list[MessageOut | CallOut | ReasoningOut]
    usage: ResponseUsage | None
    background: bool
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    metadata: dict[str, str]
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt_cache_key: str | None
    reasoning: dict[str, Any]
    safety_identifier: str | None
    service_tier: str
    store: bool
    temperature: float
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_logprobs: int
    top_p: float
    truncation: str
    user: str | None
    safety: VerdictOut | None = None


class DeletedOut(_Shape):
    """A response that was forgotten."""

    id: str
    object: Literal["response"]
    deleted: bool


class CountedOut(_Shape):
    """How many tokens a prompt has."""

    object: Literal["response.input_tokens"]
    input_tokens: int


class ItemListOut(_Shape):
    """A page of input items."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    has_more: bool
    first_id: str | None
    last_id: str | None


SHAPES = (ResponseOut, DeletedOut, CountedOut, ItemListOut)
