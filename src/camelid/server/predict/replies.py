"""From the runtime's events to the answers of `predict`: raw text in a stream, or one JSON or msgpack value. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from camelid.types import Event, Finished, FinishReason, Started, Text, TokenScore, Usage

from ..errors import HeadedEnvelope, Problem
from .requests import Form

BINARY = "application/octet-stream"
END_OF_TURN = "<|eot_id|>"  # what the code as built shows at the end of a stream
SERVICE = "04"  # Baseten's number of the server inside a container
_CALLERS_FAULT, _MODELS_FAULT, _SERVERS_FAULT = "700", "600", "500"

Write = Callable[[object], bytes]
to_msgpack: Write = msgspec.msgpack.encode


def to_json(value: object) -> bytes:
    """Return JSON as Python writes it, which is what Truss's clients have always got."""
    return json.dumps(value).encode()


def error_body(problem: Problem) -> bytes:
    """Return Truss's envelope of an error."""
    return msgspec.json.encode({"error": problem.message})


def error_headers(problem: Problem) -> Mapping[str, str]:
    """Return the headers by which Baseten's gateway tells whose fault an error is."""
    code = _CALLERS_FAULT if problem.status < 500 else _MODELS_FAULT
    if problem.code == "internal_error":
        code = _SERVERS_FAULT
    return {"x-baseten-error-source": SERVICE, "x-baseten-error-code": code}


ENVELOPE = HeadedEnvelope(error_body, error_headers)


class _Growing:
    """One text of the answer."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.scores: list[TokenScore] = []
        self.end: Finished | None = None

    @property
    def text(self) -> str:
        """All of it; as in Transformers, a stop string is part of it."""
        return "".join(self.texts) + ((self.end.stop or "") if self.end else "")


class Reply:
    """An answer that is sent whole."""

    def __init__(self, form: Form, write: Write, prompt: str = "") -> None:
        """Write the answer with `write`; `prompt` is what the profile as-built shows in front of it."""
        self._form, self._write, self._prompt = form, write, prompt
        self._answers: dict[int, _Growing] = {}
        self._usage = Usage(0, 0)

    def feed(self, event: Event) -> None:
        """Take one event."""
        if isinstance(event, Text):
            growing = self._answers.setdefault(event.choice, _Growing())
            growing.texts.append(event.text)
            growing.scores += event.scores
        elif isinstance(event, Finished):
            self._answers.setdefault(event.choice, _Growing()).end = event
            self._usage = event.usage or self._usage

    def body(self) -> bytes:
        """Return the answer, once all events are in."""
        answers = [self._answers[choice] for choice in sorted(self._answers)]
        texts = [self._prompt + answer.text for answer in answers]
        output = {"output": texts if self._form.has_list else texts[0]}
        return self._write(output if self._form.echo else output | self._extras(answers))

    def _extras(self, answers: list[_Growing]) -> dict[str, Any]:
        """Return what stands beside the answer: why it ended, what was counted, and scores where they are asked for."""
        reasons = [answer.end.reason.value if answer.end else None for answer in answers]
        used = self._usage
        total = used.prompt_tokens + used.completion_tokens
        extras: dict[str, Any] = {
            "finish_reason": reasons if self._form.has_list else reasons[0],
            "usage": {
                "prompt_tokens": used.prompt_tokens,
                "completion_tokens": used.completion_tokens,
                "total_tokens": total,
            },
        }
        if self._form.scores:
            extras["scores"] = [[score.logprob for score in answer.scores] for answer in answers]
        if self._form.searches:
            extras["sequences_scores"] = [answer.end.score if answer.end else None for answer in answers]
        return extras


class Stream:
    """A stream: the text and nothing else. As built, the prompt with its control tokens comes first."""

    media_type = BINARY
    beat = b""  # there is nothing that could be sent and not be part of the text

    def __init__(self, form: Form) -> None:
        self._form = form

    def feed(self, event: Event) -> bytes:
        """Return the bytes that `event` makes; none for some."""
        match event:
            case Text():
                return event.text.encode()
            case Started() if event.echo is not None:
                return event.echo.text.encode()
            case Finished():
                return self._end(event).encode()
            case _:
                return b""

    def finish(self) -> bytes:
        """Return what comes after the last event: nothing."""
        return b""

    def fail(self, problem: Problem) -> None:
        """Say that a stream that has gone wrong is broken off: text has no place for an error."""

    def _end(self, event: Finished) -> str:
        is_turn = self._form.echo and event.reason is FinishReason.STOP and event.stop is None
        return END_OF_TURN if is_turn else event.stop or ""


class GatheredStream:
    """A stream in one piece, as a JSON or msgpack string, for clients that take nothing else."""

    def __init__(self, form: Form, write: Write) -> None:
        self._stream, self._write = Stream(form), write
        self._parts: list[bytes] = []

    def feed(self, event: Event) -> None:
        """Take one event."""
        self._parts.append(self._stream.feed(event))

    def body(self) -> bytes:
        """Return the text, once all events are in."""
        return self._write(b"".join(self._parts).decode())
