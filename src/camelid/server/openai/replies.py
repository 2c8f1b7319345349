"""From the runtime's events to OpenAI's replies and stream chunks.

Reducers: an event goes in, state is kept, bytes come out. Nothing here waits, sends or knows HTTP. Chunks are put
together from constant parts, because one is written for every token.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from camelid.types import Event, Finished, Reasoning, Refusal, Started, Text, TokenScore, ToolCall, ToolCalled, Usage

from ..errors import Problem
from ..sse import BEAT, DONE, MEDIA_TYPE, frame, json_text
from ..verdicts import verdict
from .requests import Form
from .scores import chat_scores

encode = msgspec.json.encode


@dataclass(frozen=True)
class Stamp:
    """What every chunk of one reply has in common."""

    id: str
    created: int  # Unix time, seconds
    fingerprint: str


def error_body(problem: Problem) -> bytes:
    """Return OpenAI's envelope of an error."""
    kind = "invalid_request_error" if problem.status < 500 else "server_error"
    body = {"message": problem.message, "type": kind, "param": problem.field, "code": problem.code}
    return encode({"error": body | dict(problem.details)})


def model_card(name: str, created: int, base: str | None = None) -> dict[str, Any]:
    """Return one entry of the list of models; `base` is the model that it is, but for an adapter."""
    card = {"id": name, "object": "model", "created": created, "owned_by": "camelid"}
    return card if base is None else {**card, "parent": base}


@dataclass
class _Usages:
    """The usage of a reply: the sum over its requests (plain completion may have several)."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0

    def add(self, usage: Usage | None) -> None:
        if usage is not None:
            self.prompt += usage.prompt_tokens
            self.completion += usage.completion_tokens
            self.cached += usage.cached_tokens

    def body(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        }


@dataclass
class Answer:
    """One choice of a reply that is sent whole."""

    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    scores: list[TokenScore] = field(default_factory=list)
    reason: str | None = None
    refusal: Refusal | None = None


class AnyReply:
    """Gathers the events of all choices; the base of both kinds of reply."""

    def __init__(self, stamp: Stamp, form: Form, num_answers: int) -> None:
        self.stamp, self.form = stamp, form
        self.answers = [Answer() for _ in range(num_answers)]
        self.usage = _Usages()

    def feed(self, event: Event) -> None:
        """Take one event."""
        match event:
            case Text():
                self.answers[event.choice].texts.append(event.text)
                self.answers[event.choice].scores.extend(event.scores)
            case Reasoning():
                self.answers[event.choice].thoughts.append(event.text)
            case ToolCalled():
                if self.form.parallel_calls or event.index == 0:
                    self.answers[event.choice].calls.append(event.call)
            case Finished():
                self.answers[event.choice].reason = event.reason.value
                self.answers[event.choice].refusal = event.refusal
                self.usage.add(event.usage)

    def body_of(self, kind: str, choices: list[dict[str, Any]]) -> bytes:
        """Return a reply with these choices."""
        return encode(
            {
                "id": self.stamp.id,
                "object": kind,
                "created": self.stamp.created,
                "model": self.form.model,
                "system_fingerprint": self.stamp.fingerprint,
                "choices": choices,
                "usage": self.usage.body(),
            }
        )


class ChatReply(AnyReply):
    """The reply to a chat request that is not streamed."""

    def __init__(self, stamp: Stamp, form: Form) -> None:
        super().__init__(stamp, form, form.num_choices)

    def body(self) -> bytes:
        """Return the reply, once all events are in."""
        choices = [
            {
                "index": index,
                "message": self._message(answer),
                "logprobs": chat_scores(answer.scores) if self.form.logprobs else None,
                "finish_reason": answer.reason,
                **safety(answer.refusal),
            }
            for index, answer in enumerate(self.answers)
        ]
        return self.body_of("chat.completion", choices)

    def _message(self, answer: Answer) -> dict[str, Any]:
        text = "".join(answer.texts)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": text or (None if answer.calls or answer.refusal else ""),
            "refusal": answer.refusal.text if answer.refusal else None,
        }
        if answer.thoughts:
            message["reasoning_content"] = "".join(answer.thoughts)
        if answer.calls:
            message["tool_calls"] = [_call(call) for call in answer.calls]
        return message


class AnyStream:
    """Writes chunks; the base of both kinds of stream."""

    media_type = MEDIA_TYPE
    beat = BEAT

    def __init__(self, stamp: Stamp, form: Form, kind: str) -> None:
        self.form = form
        self.usage = _Usages()
        self._head = (
            f'{{"id":"{stamp.id}","object":"{kind}","created":{stamp.created},"model":{json_text(form.model).decode()},'
            f'"system_fingerprint":{json_text(stamp.fingerprint).decode()},"choices":['
        ).encode()
        self._tail = b'],"usage":null}' if form.include_usage else b"]}"

    def finish(self) -> bytes:
        """Return what comes after the last event."""
        if not self.form.include_usage:
            return DONE
        return frame(self._head + b'],"usage":' + encode(self.usage.body()) + b"}") + DONE

    def fail(self, problem: Problem) -> bytes:
        """Return the event that ends a stream with an error: there is no `[DONE]` behind it."""
        return frame(error_body(problem))

    def chunk_of(self, choice: bytes) -> bytes:
        """Return a chunk of one choice."""
        return frame(self._head + choice + self._tail)


class ChatStream(AnyStream):
    """The chunks of a chat reply."""

    def __init__(self, stamp: Stamp, form: Form) -> None:
        super().__init__(stamp, form, "chat.completion.chunk")

    def feed(self, event: Event) -> bytes:
        """Return the chunks that `event` makes; none for some."""
        match event:
            case Text():
                scores = encode(chat_scores(event.scores)) if self.form.logprobs else b"null"
                return self._delta(event.choice, b'{"content":' + json_text(event.text) + b"}", scores)
            case Started():
                roles = range(self.form.num_choices)
                return b"".join(self._delta(choice, b'{"role":"assistant","content":""}') for choice in roles)
            case Reasoning():
                return self._delta(event.choice, b'{"reasoning_content":' + json_text(event.text) + b"}")
            case ToolCalled():
                if event.index and not self.form.parallel_calls:
                    return b""
                call = {"index": event.index} | _call(event.call)
                return self._delta(event.choice, b'{"tool_calls":' + encode([call]) + b"}")
            case Finished():
                self.usage.add(event.usage)
                reason = json_text(event.reason.value)
                if event.refusal is None:
                    return self._delta(event.choice, b"{}", reason=reason)
                said = self._delta(event.choice, encode({"refusal": event.refusal.text}))
                return said + self._delta(event.choice, b"{}", reason=reason, more=more(event.refusal))

    def _delta(
        self, choice: int, delta: bytes, scores: bytes = b"null", reason: bytes = b"null", more: bytes = b""
    ) -> bytes:
        parts = (b'{"index":%d,"delta":' % choice, delta, b',"logprobs":', scores, b',"finish_reason":', reason)
        return self.chunk_of(b"".join((*parts, more, b"}")))


def safety(refusal: Refusal | None) -> dict[str, Any]:
    """Return the field of a choice that says why it was refused, which is ours; none if it was not."""
    return {} if refusal is None else {"safety": verdict(refusal)}


def more(refusal: Refusal | None) -> bytes:
    """Return the same as a part of a chunk."""
    return b"" if refusal is None else b',"safety":' + encode(verdict(refusal))


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
