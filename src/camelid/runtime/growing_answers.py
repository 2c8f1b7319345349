"""All answers to one request while their tokens arrive: the beginning, the choices, the usage at the end.

Tokens that come together become one piece of text: a front that cannot keep up with its engines writes less often and
so catches up. Separate from `turn`, which waits for the tokens: nothing here does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from camelid.engine.request import Token
from camelid.types import Echo, Event, Finished, Started, Text, Usage

from .growing_answer import GrowingAnswer


class GrowingAnswers:
    """The choices of one request. Take its tokens until there are no more."""

    def __init__(
        self,
        answers: Sequence[GrowingAnswer],
        prompt: Sequence[int],
        given_back: Callable[[Token], Echo] | None = None,
    ) -> None:
        """Begin with the ids of the prompt. `given_back` makes of the first token what is said of it, if asked for."""
        self._answers = answers
        self._prompt = prompt
        self._given_back = given_back
        self._started: Started | None = None
        self._given_up: list[int] = []

    def take(self, tokens: Sequence[Token], cut: Collection[int] = ()) -> list[Event]:
        """Return what the next tokens make certain. A choice that is in `cut` ends here."""
        events: list[Event] = []
        for token in tokens:
            if self._started is None:
                self._started = self._start(token)
                events.append(self._started)
            answer = self._answers[token.choice]
            if answer.finished is None:  # else it was on its way when a stop string was hit
                events += answer.cut_off(token) if token.choice in cut else answer.take(token)
                if answer.finished is not None:
                    events.append(self._finish(answer.finished, token))
        return events if len(tokens) == 1 else _joined(events)

    def given_up(self) -> list[int]:
        """Return, once, the choices that ended here and of which the engine does not know it."""
        given_up, self._given_up = self._given_up, []
        return given_up

    def _start(self, token: Token) -> Started:
        back = None if self._given_back is None else self._given_back(token)
        return Started(len(self._prompt), token.cached_tokens, back, ids=self._prompt)

    def _finish(self, finished: Finished, token: Token) -> Finished:
        """Return the end of an answer, with the usage of the whole request if it is the last."""
        if token.finish is None:
            self._given_up.append(token.choice)
        if self._started is None or any(answer.finished is None for answer in self._answers):
            return finished
        num_tokens = sum(answer.num_tokens for answer in self._answers)
        return replace(finished, usage=Usage(len(self._prompt), num_tokens, self._started.cached_tokens))


def _joined(events: Sequence[Event]) -> list[Event]:
    """Return the events with neighbouring pieces of text of one choice in one."""
    joined: list[Event] = []
    for event in events:
        last = joined[-1] if joined else None
        if isinstance(event, Text) and isinstance(last, Text) and event.choice == last.choice:
            joined[-1] = Text(last.text + event.text, event.choice, last.scores + event.scores)
        else:
            joined.append(event)
    return joined
