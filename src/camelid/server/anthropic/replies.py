"""From the runtime's events to Anthropic's replies and stream events.

Reducers: an event goes in, state is kept, bytes come out. A stream is a sequence of content blocks, one open at a time.
Nothing here waits, sends or knows HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from camelid.types import Event, Finished, FinishReason, Reasoning, Started, Text, ToolCall, ToolCalled, Usage

from ..errors import Problem
from ..sse import MEDIA_TYPE

_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}
_REASONS = {
    FinishReason.LENGTH: "max_tokens",
    FinishReason.TOOL_CALLS: "tool_use",
    FinishReason.STOP: "end_turn",
    FinishReason.CONTENT_FILTER: "refusal",
}

encode = msgspec.json.encode


def error_body(problem: Problem) -> bytes:
    """Return Anthropic's envelope of an error."""
    kind = _KINDS.get(problem.status, "invalid_request_error" if problem.status < 500 else "api_error")
    return encode({"type": "error", "error": {"type": kind, "message": problem.message}})


def model_card(name: str, loaded_at: float, context_length: int) -> dict[str, Any]:
    """Return one entry of the list of models. `loaded_at`: Unix time, seconds."""
    created = datetime.fromtimestamp(int(loaded_at), UTC).isoformat().replace("+00:00", "Z")
    limits = {"max_input_tokens": context_length, "max_tokens": context_length, "capabilities": None}
    life = {"lifecycle": "active", "line": None, "deprecated_at": None, "retires_at": None}
    return {"type": "model", "id": name, "display_name": name, "created_at": created, **life, **limits}


def model_list(cards: Sequence[dict[str, Any]], *, has_more: bool) -> bytes:
    """Return a page of the list of models."""
    ids = [card["id"] for card in cards]
    ends = {"first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None}
    return encode({"data": list(cards), "has_more": has_more, **ends})


class Reply:
    """A message that is sent whole."""

    def __init__(self, identity: str, model: str) -> None:
        self._message = _message(identity, model)
        self._texts: list[str] = []
        self._calls: list[ToolCall] = []

    def feed(self, event: Event) -> None:
        """Take one event."""
        match event:
            case Text():
                self._texts.append(event.text)
            case ToolCalled():
                self._calls.append(event.call)
            case Finished():
                self._message |= {**_ending(event), "usage": _usage(event.usage)}
            case Started() | Reasoning():
                pass

    def body(self) -> bytes:
        """Return the message."""
        text = "".join(self._texts)
        blocks: list[dict[str, Any]] = [{"type": "text", "text": text}] if text or not self._calls else []
        blocks += [{**_tool_use(call), "input": _arguments(call)} for call in self._calls]
        return encode({**self._message, "content": blocks})


class Stream:
    """The events of a message."""

    media_type = MEDIA_TYPE
    beat = b'event: ping\ndata: {"type":"ping"}\n\n'

    def __init__(self, identity: str, model: str) -> None:
        self._message = _message(identity, model)
        self._index = -1
        self._has_text_open = False
        self._end: dict[str, Any] = {}

    def feed(self, event: Event) -> bytes:
        """Return the events that `event` makes."""
        match event:
            case Started():
                usage = {**_usage(Usage(event.prompt_tokens, 0, event.cached_tokens)), "output_tokens": 0}
                return _event("message_start", message={**self._message, "usage": usage}) + self.beat
            case Text():
                return self._text(event.text)
            case ToolCalled():
                return self._close() + self._tool(event.call)
            case Finished():
                self._end = {"delta": _ending(event), "usage": _usage(event.usage)}
            case Reasoning():
                pass
        return b""

    def finish(self) -> bytes:
        """Return the end: an empty text where nothing was said, why it ended, and the last event."""
        said = b"" if self._index >= 0 else self._text("")
        return said + self._close() + _event("message_delta", **self._end) + _event("message_stop")

    def fail(self, problem: Problem) -> bytes:
        """Return the event that ends a stream that has gone wrong."""
        return b"event: error\ndata: " + error_body(problem) + b"\n\n"

    def _text(self, text: str) -> bytes:
        begun = b""
        if not self._has_text_open:
            self._has_text_open, self._index = True, self._index + 1
            begun = _event("content_block_start", index=self._index, content_block={"type": "text", "text": ""})
        delta = {"type": "text_delta", "text": text}
        return begun + (_event("content_block_delta", index=self._index, delta=delta) if text else b"")

    def _tool(self, call: ToolCall) -> bytes:
        self._index += 1
        delta = {"type": "input_json_delta", "partial_json": encode(_arguments(call)).decode()}
        return (
            _event("content_block_start", index=self._index, content_block={**_tool_use(call), "input": {}})
            + _event("content_block_delta", index=self._index, delta=delta)
            + _event("content_block_stop", index=self._index)
        )

    def _close(self) -> bytes:
        if not self._has_text_open:
            return b""
        self._has_text_open = False
        return _event("content_block_stop", index=self._index)


def _event(kind: str, **values: Any) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + encode({"type": kind, **values}) + b"\n\n"


def _message(identity: str, model: str) -> dict[str, Any]:
    empty: dict[str, Any] = {"content": [], "stop_reason": None, "stop_sequence": None}
    return {"id": identity, "type": "message", "role": "assistant", "model": model, **empty}


def _ending(event: Finished) -> dict[str, Any]:
    reason = "stop_sequence" if event.stop is not None else _REASONS[event.reason]
    ending: dict[str, Any] = {"stop_reason": reason, "stop_sequence": event.stop}
    if event.refusal is not None:  # its categories are Anthropic's own, and none of them ours
        ending["stop_details"] = {"type": "refusal", "category": None, "explanation": event.refusal.text}
    return ending


def _usage(usage: Usage | None) -> dict[str, Any]:
    """Return Anthropic's counts, which leave cached tokens out of the input."""
    found = usage or Usage(0, 0)
    return {
        "input_tokens": found.prompt_tokens - found.cached_tokens,
        "cache_read_input_tokens": found.cached_tokens,
        "cache_creation_input_tokens": 0,
        "output_tokens": found.completion_tokens,
    }


def _tool_use(call: ToolCall) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{call.id}", "name": call.name}


def _arguments(call: ToolCall) -> Any:
    try:
        return json.loads(call.arguments)
    except ValueError:
        return {}
