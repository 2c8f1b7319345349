"""A whole answer, put together from its events: for callers that do not stream."""

from __future__ import annotations

from dataclasses import dataclass, field

from camelid.types import (
    Echo,
    Event,
    Finished,
    FinishReason,
    Refusal,
    Started,
    Text,
    TokenScore,
    ToolCall,
    ToolCalled,
    Usage,
)


@dataclass(frozen=True)
class Choice:
    """One of the answers to a request.

    `scores` are there when `top_logprobs` was given. `ids` are its tokens, the end token included; `stop` is the stop
    string that ended it, `score` that of a search with beams; `refusal` tells why a safety model ended it.
    """

    text: str
    tool_calls: tuple[ToolCall, ...]
    finish_reason: FinishReason
    scores: tuple[TokenScore, ...] = ()
    ids: tuple[int, ...] = field(default=(), compare=False)
    stop: str | None = None
    score: float | None = None
    refusal: Refusal | None = None


@dataclass(frozen=True)
class Answer:
    """What a request was answered with. With `num_choices` above 1, the properties are those of the first choice.

    `echo` is the prompt, where it was asked for.
    """

    choices: tuple[Choice, ...]
    usage: Usage
    echo: Echo | None = None

    @property
    def text(self) -> str:
        """What the model said."""
        return self.choices[0].text

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tools that the model called."""
        return self.choices[0].tool_calls

    @property
    def refusal(self) -> Refusal | None:
        """Why a safety model ended the answer, if one did."""
        return self.choices[0].refusal

    @property
    def finish_reason(self) -> FinishReason:
        """Why the answer ended."""
        return self.choices[0].finish_reason


class Collector:
    """Takes the events of one request, and gives its answer when all are in."""

    def __init__(self) -> None:
        self._texts: dict[int, list[Text]] = {}
        self._calls: dict[int, list[ToolCall]] = {}
        self._ends: dict[int, Finished] = {}
        self._usage = Usage(0, 0)
        self._echo: Echo | None = None

    def feed(self, event: Event) -> None:
        """Take one event."""
        if isinstance(event, Text):
            self._texts.setdefault(event.choice, []).append(event)
        elif isinstance(event, ToolCalled):
            self._calls.setdefault(event.choice, []).append(event.call)
        elif isinstance(event, Finished):
            self._ends[event.choice] = event
            self._usage = event.usage or self._usage
        elif isinstance(event, Started):
            self._echo = event.echo

    def answer(self) -> Answer:
        """Return what the events made up."""
        return Answer(tuple(self._choice(choice) for choice in sorted(self._ends)), self._usage, self._echo)

    def _choice(self, choice: int) -> Choice:
        pieces, end = self._texts.get(choice, ()), self._ends[choice]
        return Choice(
            text="".join(piece.text for piece in pieces),
            tool_calls=tuple(self._calls.get(choice, ())),
            finish_reason=end.reason,
            scores=tuple(score for piece in pieces for score in piece.scores),
            ids=end.ids,
            stop=end.stop,
            score=end.score,
            refusal=end.refusal,
        )
