"""From the runtime's events to Ollama's replies: one JSON object a line, or one in all.

Reducers: an event goes in, state is kept, bytes come out. Nothing here waits, sends or knows HTTP.
"""

from __future__ import annotations

import json
import secrets
import string
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from camelid.types import (
    Event,
    Finished,
    FinishReason,
    Reasoning,
    Refusal,
    Started,
    Text,
    TokenScore,
    ToolCalled,
    Usage,
)

from ..errors import Problem
from ..verdicts import verdict

MEDIA_TYPE = "application/x-ndjson"
_REASONS = {FinishReason.LENGTH: "length", FinishReason.CONTENT_FILTER: "content_filter"}
_LETTERS = string.ascii_lowercase + string.digits

encode = msgspec.json.encode
Wrap = Callable[[str, list[dict[str, Any]]], dict[str, Any]]  # text and tool calls → the part that holds them


def as_chat(text: str, calls: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what a line of /api/chat says."""
    message: dict[str, Any] = {"role": "assistant", "content": text}
    return {"message": {**message, "tool_calls": calls} if calls else message}


def as_generate(text: str, calls: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what a line of /api/generate says."""
    return {"response": text, "tool_calls": calls} if calls else {"response": text}


def error_body(problem: Problem) -> bytes:
    """Return Ollama's envelope of an error."""
    return encode({"error": problem.message})


def now() -> str:
    """Return the time as Ollama writes it: RFC 3339, UTC, nanoseconds."""
    ns = time.time_ns()
    return f"{datetime.fromtimestamp(ns // 10**9, UTC):%Y-%m-%dT%H:%M:%S}.{ns % 10**9:09d}Z"


@dataclass
class Clock:
    """When what happened, in nanoseconds; from these come the durations of the last line."""

    began: int = field(default_factory=time.perf_counter_ns)
    ready: int = 0  # the model was loaded
    started: int = 0  # the first token came

    def durations(self) -> dict[str, int]:
        """Return Ollama's durations, up to now."""
        end = time.perf_counter_ns()
        ready = self.ready or self.began
        started = self.started or end
        return {
            "total_duration": end - self.began,
            "load_duration": ready - self.began,
            "prompt_eval_duration": started - ready,
            "eval_duration": end - started,
        }


class Reply:
    """One answer, streamed line by line (`feed`, `finish`) or gathered (`body`).

    `gives_context`: the last line has the ids of prompt and answer, for the next request to go on from.
    """

    media_type = MEDIA_TYPE
    beat = b""  # there is no line that says nothing

    def __init__(self, model: str, wrap: Wrap, clock: Clock, *, gives_context: bool = False) -> None:
        self._model, self._wrap, self._clock = model, wrap, clock
        self._gives_context = gives_context
        self._ids: list[int] = []
        self._texts: list[str] = []
        self._calls: list[dict[str, Any]] = []
        self._scores: list[dict[str, Any]] = []
        self._usage = Usage(0, 0)
        self._reason = "stop"
        self._refusal: Refusal | None = None

    def feed(self, event: Event) -> bytes:
        """Take one event and return the line that it makes."""
        match event:
            case Started():
                self._usage = Usage(event.prompt_tokens, 0, event.cached_tokens)
                self._ids += event.ids
            case Text():
                self._clock.started = self._clock.started or time.perf_counter_ns()
                self._texts.append(event.text)
                scores = [_score(score) for score in event.scores]
                self._scores += scores
                return self._line(event.text, [], {"logprobs": scores} if scores else {})
            case ToolCalled():
                self._clock.started = self._clock.started or time.perf_counter_ns()
                self._calls.append(_call(event))
                return self._line("", self._calls[-1:], {})
            case Finished():
                self._usage = event.usage or self._usage
                self._ids += event.ids
                self._reason, self._refusal = _REASONS.get(event.reason, "stop"), event.refusal
            case Reasoning():
                pass
        return b""

    def finish(self) -> bytes:
        """Return the last line."""
        return self._write(self._wrap("", []), {"done": True, **self._statistics()})

    def fail(self, problem: Problem) -> bytes:
        """Return the line that ends a stream that has gone wrong."""
        return error_body(problem) + b"\n"

    def body(self) -> bytes:
        """Return everything at once."""
        scores = {"logprobs": self._scores} if self._scores else {}
        content = self._wrap("".join(self._texts), self._calls)
        return self._write(content, {"done": True, **self._statistics(), **scores})

    def _line(self, text: str, calls: list[dict[str, Any]], more: dict[str, Any]) -> bytes:
        return self._write(self._wrap(text, calls), {"done": False, **more})

    def _write(self, content: dict[str, Any], rest: dict[str, Any]) -> bytes:
        return encode({"model": self._model, "created_at": now(), **content, **rest}) + b"\n"

    def _statistics(self) -> dict[str, Any]:
        counts = {"prompt_eval_count": self._usage.prompt_tokens, "eval_count": self._usage.completion_tokens}
        why = {} if self._refusal is None else {"safety": verdict(self._refusal)}
        context = {"context": self._ids} if self._gives_context and self._refusal is None else {}
        return {"done_reason": self._reason, **context, **self._clock.durations(), **counts, **why}


def empty(model: str, wrap: Wrap, reason: str) -> bytes:
    """Return the answer to a request that only loads or unloads."""
    return encode({"model": model, "created_at": now(), **wrap("", []), "done": True, "done_reason": reason})


def _call(event: ToolCalled) -> dict[str, Any]:
    try:
        arguments = json.loads(event.call.arguments)
    except ValueError:
        arguments = {}
    identity = "call_" + "".join(secrets.choice(_LETTERS) for _ in range(8))
    return {"id": identity, "function": {"index": event.index, "name": event.call.name, "arguments": arguments}}


def _score(score: TokenScore) -> dict[str, Any]:
    found = {
        "token": score.piece.decode("utf-8", errors="replace"),
        "logprob": score.logprob,
        "bytes": list(score.piece),
    }
    return {**found, "top_logprobs": [_score(other) for other in score.top]} if score.top else found
