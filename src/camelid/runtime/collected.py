"""A whole answer, put together from its events: for callers that do not stream."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from camelid.types import Event, Finished, FinishReason, Text, TokenScore, ToolCall, ToolCalled, Usage


@dataclass(frozen=True)
class Choice:
    """One of the answers to a request. `scores` are there when `top_logprobs` was given."""

    text: str
    tool_calls: tuple[ToolCall, ...]
    finish_reason: FinishReason
    scores: tuple[TokenScore, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What a request was answered with. With `num_choices` above 1, the properties are those of the first choice."""

    choices: tuple[Choice, ...]
    usage: Usage

    @property
    def text(self) -> str:
        """What the model said."""
        return self.choices[0].text

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tools that the model called."""
        return self.choices[0].tool_calls

    @property
    def finish_reason(self) -> FinishReason:
        """Why the answer ended."""
        return self.choices[0].finish_reason


def collect(events: Iterable[Event]) -> Answer:
    """Return the answer that complete events make up."""
    texts: dict[int, list[Text]] = {}
    calls: dict[int, list[ToolCall]] = {}
    ends: dict[int, Finished] = {}
    usage = Usage(0, 0)
    for event in events:
        if isinstance(event, Text):
            texts.setdefault(event.choice, []).append(event)
        elif isinstance(event, ToolCalled):
            calls.setdefault(event.choice, []).append(event.call)
        elif isinstance(event, Finished):
            ends[event.choice] = event
            usage = event.usage or usage
    choices = (
        Choice(
            text="".join(piece.text for piece in texts.get(choice, ())),
            tool_calls=tuple(calls.get(choice, ())),
            finish_reason=ends[choice].reason,
            scores=tuple(score for piece in texts.get(choice, ()) for score in piece.scores),
        )
        for choice in sorted(ends)
    )
    return Answer(tuple(choices), usage)
