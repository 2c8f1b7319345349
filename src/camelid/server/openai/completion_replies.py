"""Plain completion: from the runtime's events to the reply and to stream chunks. Pure, as `replies.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from camelid.types import Echo, Event, Finished, FinishReason, Started, Text

from ..sse import json_text
from .replies import Answer, AnyReply, AnyStream, Stamp, encode, more, safety
from .requests import Form
from .scores import LegacyScores


class CompletionReply(AnyReply):
    """The reply to a plain completion that is not streamed."""

    def __init__(self, stamp: Stamp, form: Form, num_prompts: int = 1) -> None:
        super().__init__(stamp, form, form.best_of * num_prompts)
        self._echoes = [Echo("")] * num_prompts

    def feed(self, event: Event) -> None:
        """Take one event."""
        if isinstance(event, Started) and event.echo is not None:
            self._echoes[event.choice // self.form.best_of] = event.echo
        shown = _shown(event, self.form)
        if shown is not None:
            super().feed(shown)

    def body(self) -> bytes:
        """Return the reply, once all events are in."""
        form, choices = self.form, []
        for number, echo in enumerate(self._echoes):
            answers = self.answers[number * form.best_of : (number + 1) * form.best_of]
            choices += [self._choice(echo, answer) for answer in _best(answers, form.num_choices)]
        return self.body_of("text_completion", [{"index": index, **choice} for index, choice in enumerate(choices)])

    def _choice(self, echo: Echo, answer: Answer) -> dict[str, Any]:
        scores = LegacyScores().take((*echo.scores, *answer.scores), echo.first)
        return {
            "text": echo.text + "".join(answer.texts),
            "logprobs": scores if self.form.logprobs else None,
            "finish_reason": answer.reason,
            **safety(answer.refusal),
        }


class CompletionStream(AnyStream):
    """The chunks of a plain completion."""

    def __init__(self, stamp: Stamp, form: Form, num_prompts: int = 1) -> None:
        super().__init__(stamp, form, "text_completion")
        self._scores = [LegacyScores() for _ in range(form.num_choices * num_prompts)]

    def feed(self, event: Event) -> bytes:
        """Return the chunks that `event` makes; none for some."""
        shown = _shown(event, self.form)
        match shown:
            case Text():
                return self._text(shown.choice, shown.text, self._lists(shown.choice, shown.scores))
            case Started(echo=Echo() as echo):
                choices = range(shown.choice, shown.choice + self.form.num_choices)
                return b"".join(
                    self._text(choice, echo.text, self._lists(choice, echo.scores, echo.first)) for choice in choices
                )
            case Finished():
                self.usage.add(shown.usage)
                reason = json_text(shown.reason.value)
                return self._text(shown.choice, "", reason=reason, more=more(shown.refusal))
            case _:
                return b""

    def _lists(self, choice: int, scores: Sequence[Any], first: bytes | None = None) -> bytes:
        return encode(self._scores[choice].take(scores, first)) if self.form.logprobs else b"null"

    def _text(
        self, choice: int, text: str, scores: bytes = b"null", reason: bytes = b"null", more: bytes = b""
    ) -> bytes:
        parts = (
            b'{"index":%d,"text":' % choice,
            json_text(text),
            b',"logprobs":',
            scores,
            b',"finish_reason":',
            reason,
        )
        return self.chunk_of(b"".join((*parts, more, b"}")))


def _shown(event: Event, form: Form) -> Event | None:
    """Return what the caller is to see of an event. Where only the prompt is wanted, the one token is not there."""
    if form.shows_answer:
        return event
    if isinstance(event, Finished):
        usage = event.usage and replace(event.usage, completion_tokens=0)
        return replace(event, reason=event.reason if event.refusal else FinishReason.LENGTH, usage=usage)
    return None if isinstance(event, Text) else event


def _best(answers: Sequence[Answer], count: int) -> list[Answer]:
    """Return the `count` answers whose tokens were the likeliest on average, the best one first."""
    return list(answers) if count == len(answers) else sorted(answers, key=_mean_logprob, reverse=True)[:count]


def _mean_logprob(answer: Answer) -> float:
    if not answer.scores:
        return float("-inf")  # an answer of nothing is no answer
    return sum(score.logprob for score in answer.scores) / len(answer.scores)
