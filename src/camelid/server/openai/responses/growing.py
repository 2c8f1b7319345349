"""A response while it grows: the runtime's events become output items, and the changes that a stream tells of.

One reducer for the whole reply and for the stream, so that both always say the same. It keeps state, and neither waits
nor writes bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from camelid.types import (
    Event,
    Finished,
    FinishReason,
    Reasoning,
    Refusal,
    Started,
    Text,
    TokenScore,
    ToolCall,
    ToolCalled,
    Usage,
)

from ...errors import Problem
from ...verdicts import verdict
from ..scores import finite, piece
from .requests import ResponseForm

Item = dict[str, Any]
_INCOMPLETE = {FinishReason.LENGTH: "max_output_tokens", FinishReason.CONTENT_FILTER: "content_filter"}


@dataclass(frozen=True)
class Stamp:
    """What tells one response from another. The ids of its items are made from the token."""

    token: str  # random: who does not know it cannot ask for the response
    created: int  # Unix time, seconds

    @property
    def id(self) -> str:
        """The id of the response."""
        return f"resp_{self.token}"


@dataclass(frozen=True)
class Change:
    """What happened to a response: the name of an event of the API, and its values."""

    kind: str
    values: dict[str, Any]


class GrowingResponse:
    """One response. Feed it events; `body` is what it is at the moment."""

    def __init__(self, stamp: Stamp, form: ResponseForm) -> None:
        self.stamp, self.form = stamp, form
        self.output: list[Item] = []
        self.status = "in_progress"
        self._usage: Usage | None = None
        self._error: dict[str, Any] | None = None
        self._incomplete: dict[str, Any] | None = None
        self._refusal: Refusal | None = None
        self._texts: list[str] = []  # of the part that is open
        self._scores: list[dict[str, Any]] = []
        self._open: Item | None = None  # the last item, while more of it may come

    def body(self) -> dict[str, Any]:
        """Return the response as it is now."""
        return {
            "id": self.stamp.id,
            "object": "response",
            "created_at": self.stamp.created,
            "status": self.status,
            "error": self._error,
            "incomplete_details": self._incomplete,
            "model": self.form.model,
            "output": self.output,
            "usage": _usage(self._usage),
            **self.form.echo,
            **({} if self._refusal is None else {"safety": verdict(self._refusal)}),
        }

    def feed(self, event: Event) -> Iterator[Change]:
        """Take one event and yield what it changes. Take all of them: the state moves with the yields."""
        match event:
            case Started():
                yield Change("response.created", {"response": self.body()})
                yield Change("response.in_progress", {"response": self.body()})
            case Text():
                yield from self._begin("message")
                yield self._say("output_text", event.text, event.scores)
            case Reasoning():
                yield from self._begin("reasoning")
                yield self._say("reasoning_text", event.text)
            case ToolCalled():
                if self.form.parallel_calls or event.index == 0:
                    yield from self._close()
                    yield from self._call(event.call)
            case Finished():
                yield from self._finish(event)

    def fail(self, problem: Problem) -> Iterator[Change]:
        """Yield what tells that the response ends with an error."""
        self.status = "failed"
        self._error = {"code": "server_error", "message": problem.message}
        values = {"code": problem.code, "message": problem.message, "param": problem.field}
        yield Change("error", values)
        yield Change("response.failed", {"response": self.body()})

    # ── items ──

    def _begin(self, kind: str) -> Iterator[Change]:
        """Open an item of text unless one of this kind is open."""
        if self._open is not None and self._open["type"] == kind:
            return
        yield from self._close()
        item: Item
        if kind == "message":
            item = {"id": self._id("msg"), "type": kind, "status": "in_progress", "role": "assistant", "content": []}
            part: dict[str, Any] = {"type": "output_text", "annotations": [], "logprobs": [], "text": ""}
        else:
            item = {"id": self._id("rs"), "type": kind, "status": "in_progress", "summary": [], "content": []}
            part = {"type": "reasoning_text", "text": ""}
        self.output.append(item)
        self._open = item
        yield Change("response.output_item.added", {"output_index": self._index, "item": {**item, "content": []}})
        item["content"].append(part)
        yield Change("response.content_part.added", {**self._part_place(item), "part": dict(part)})

    def _say(self, kind: str, text: str, scores: tuple[TokenScore, ...] = ()) -> Change:
        """Add to the part that is open."""
        self._texts.append(text)
        values = {**self._part_place(self.output[-1]), "delta": text}
        if kind == "output_text":
            shown = [_score(score) for score in scores] if self.form.logprobs else []
            self._scores += shown
            values["logprobs"] = shown
        return Change(f"response.{kind}.delta", values)

    def _close(self, status: str = "completed") -> Iterator[Change]:
        """Complete the item that is open, if there is one."""
        item, self._open = self._open, None
        if item is None:
            return
        part, place = item["content"][0], self._part_place(item)
        part["text"], self._texts = "".join(self._texts), []
        said = {**place, "text": part["text"]}
        if part["type"] == "output_text":
            part["logprobs"], self._scores = self._scores, []
            said["logprobs"] = part["logprobs"]
        item["status"] = status
        yield Change(f"response.{part['type']}.done", said)
        yield Change("response.content_part.done", {**place, "part": part})
        yield Change("response.output_item.done", {"output_index": self._index, "item": item})

    def _call(self, call: ToolCall) -> Iterator[Change]:
        """Add an item that calls a function. The runtime knows a call only when it is complete: one delta."""
        item: Item = {"id": self._id("fc"), "type": "function_call", "status": "completed"}
        item |= {"call_id": call.id, "name": call.name, "arguments": call.arguments}
        self.output.append(item)
        begun = {**item, "status": "in_progress", "arguments": ""}
        place = {"item_id": item["id"], "output_index": self._index}
        yield Change("response.output_item.added", {"output_index": self._index, "item": begun})
        yield Change("response.function_call_arguments.delta", {**place, "delta": call.arguments})
        yield Change("response.function_call_arguments.done", {**place, "name": call.name, "arguments": call.arguments})
        yield Change("response.output_item.done", {"output_index": self._index, "item": item})

    def _finish(self, event: Finished) -> Iterator[Change]:
        why = _INCOMPLETE.get(event.reason)
        self._usage, self._refusal = event.usage, event.refusal
        self._incomplete = None if why is None else {"reason": why}
        if not self.output:
            yield from self._begin("message")  # an answer of nothing is an empty text
        self.status = "completed" if why is None else "incomplete"
        yield from self._close(self.status)
        yield Change(f"response.{self.status}", {"response": self.body()})

    @property
    def _index(self) -> int:
        return len(self.output) - 1

    def _id(self, prefix: str) -> str:
        return f"{prefix}_{self.stamp.token}{len(self.output)}"

    def _part_place(self, item: Item) -> dict[str, Any]:
        return {"item_id": item["id"], "output_index": self._index, "content_index": 0}


def _usage(usage: Usage | None) -> dict[str, Any] | None:
    if usage is None:
        return None
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def _score(score: TokenScore) -> dict[str, Any]:
    return {**_chance(score), "top_logprobs": [_chance(top) for top in score.top]}


def _chance(score: TokenScore) -> dict[str, Any]:
    return {"token": piece(score), "logprob": finite(score.logprob), "bytes": list(score.piece)}
