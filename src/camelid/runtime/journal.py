"""What was asked of an engine and what it has answered so far: enough to go on exactly where a dead engine stopped.

Sampling is keyed by (seed, choice, position), so a request with the ids so far is all the state there is. The journal
lives in the front and outlives engines. It knows no processes and no sockets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from camelid.engine.request import GenerateRequest, Token
from camelid.errors import ProtocolError


class Entry:
    """One open request: what was asked, the ids so far of each choice, which choices are complete, and how often an
    engine died on it.
    """

    def __init__(self, request: GenerateRequest) -> None:
        self.request = request
        self.answers: list[list[int]] = [[] for _ in range(request.num_choices)]
        for choice, ids in enumerate(request.answers):
            self.answers[choice].extend(ids)
        self.finished = set(request.finished)
        self.stopped: set[int] = set()  # given up: finished, and tokens that still come are no error
        self.was_admitted = False
        self.deaths = 0  # of engines that worked on it, in a row, with no token for it in between
        self.lone_deaths = 0  # … the last of them, when there was nothing else in the engine

    @property
    def is_complete(self) -> bool:
        """True when every choice has its last token."""
        return len(self.finished) == self.request.num_choices

    def accept(self, token: Token) -> bool:
        """Take a token in; return False for one that is here already.

        Raises ProtocolError when a token before it is missing, for another id at a known place, and for a choice that
        is not there or complete.
        """
        if not 0 <= token.choice < len(self.answers):
            raise ProtocolError(f"request {token.request_id} has no choice {token.choice}")
        if token.choice in self.stopped:
            return False
        answer = self.answers[token.choice]
        if token.index < len(answer):
            if token.id != answer[token.index]:
                raise ProtocolError(f"{_place(token)} was {answer[token.index]} and came again as {token.id}")
            return False
        if token.choice in self.finished:
            raise ProtocolError(f"{_place(token)} came after the last one")
        if token.index > len(answer):
            raise ProtocolError(f"{_place(token)} came after {len(answer)} tokens")
        self._append(token, answer)
        return True

    def stop(self, choice: int) -> None:
        """Take no more tokens of a choice."""
        self.stopped.add(choice)
        self.finished.add(choice)

    def _append(self, token: Token, answer: list[int]) -> None:
        answer.append(token.id)
        self.was_admitted = True
        self.deaths = self.lone_deaths = 0
        if token.finish is not None:
            self.finished.add(token.choice)

    def resumed(self) -> GenerateRequest:
        """Return the request that a new engine has to be given."""
        return replace(
            self.request,
            answers=tuple(tuple(answer) for answer in self.answers),
            finished=frozenset(self.finished),
        )


class Journal:
    """The open requests of one engine, oldest first."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    def open(self, request: GenerateRequest) -> Entry:
        """Write a request down. Raises ProtocolError for an id that is open already."""
        if request.id in self._entries:
            raise ProtocolError(f"request {request.id} is open already")
        entry = self._entries[request.id] = Entry(request)
        return entry

    def get(self, request_id: str) -> Entry | None:
        """Return an open request, or None: it may have been closed while a message about it was on its way."""
        return self._entries.get(request_id)

    def close(self, request_id: str) -> None:
        """Strike a request out; it need not be open."""
        self._entries.pop(request_id, None)


def _place(token: Token) -> str:
    return f"request {token.request_id}, choice {token.choice}: token {token.index}"
