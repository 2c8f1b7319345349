"""Beam search: which beginnings of an answer are kept, which are finished, and when nothing better can come.

Apart from the sequences that compute them because this is arithmetic alone: scores in, choices out. It reproduces
Transformers' search to the number, its 32-bit sums and its −10⁹ for "impossible" included, so that a result of one is a
result of the other; of equal scores the first beam and the lowest id win. It knows no pages and no backend but the
values that a backend gives. Source: `generate` of Transformers 5.23.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from camelid.backends.base import Drawn
from camelid.rules import Beams

Floats = NDArray[np.float32]
IMPOSSIBLE = np.float32(-1e9)


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """A token of a beginning, behind the ones before it; beginnings share what they have in common."""

    token: int
    before: Link | None
    length: int  # tokens up to and with this one
    is_end: bool = False  # an end token, or the last of a stop string
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()

    def path(self) -> list[Link]:
        """Return the links from the first token to this one."""
        links: list[Link] = []
        link: Link | None = self
        while link is not None:
            links.append(link)
            link = link.before
        return links[::-1]


@dataclass(frozen=True, slots=True)
class Grown:
    """How a beam goes on: the beam that it comes from, and its newest token. `is_over`: it ended and is kept for want
    of others; what it goes on with does not count.
    """

    parent: int
    link: Link
    is_over: bool


@dataclass(frozen=True, slots=True)
class Found:
    """An answer with its score. `link` is its last token."""

    link: Link
    score: float


class BeamSearch:
    """One search. `most_tokens` is how long an answer may be; `ends` tells whether the token that a beam is to go on
    with ends it for another reason; `num_ends` is how many tokens end answers, which decides how many candidates are
    looked at.
    """

    def __init__(self, beams: Beams, num_ends: int, most_tokens: int, ends: Callable[[int, int], bool]) -> None:
        self._beams = beams
        self._most_tokens = most_tokens
        self._ends = ends
        self.num_candidates = max(2, 1 + num_ends) * beams.num_beams
        self.running: list[Link | None] = [None] * beams.num_beams
        self._scores = np.full(beams.num_beams, IMPOSSIBLE)  # of the running beams
        self._scores[0] = 0  # all begin alike, so only the first one's candidates may count
        self._finished: list[Link | None] = [None] * beams.num_beams
        self._finished_scores = np.full(beams.num_beams, IMPOSSIBLE)
        self._is_finished = np.zeros(beams.num_beams, np.bool_)
        self._can_improve = True
        self._num_tokens = 0

    def take(self, drawn: Sequence[Drawn], *, is_last: bool = False) -> list[Grown] | None:
        """Take in the candidates of every beam, or, at the beginning, of the one that stands for all. With `is_last`
        every answer ends here.

        Return how the beams go on, None when the search is over.
        """
        links, parents, scores = self._candidates(drawn)
        self._num_tokens += 1
        is_last = is_last or self._num_tokens >= self._most_tokens
        has_ended = np.array([link.is_end or is_last for link in links])
        grown = self._go_on(links, parents, scores, has_ended)
        self._finish(links, scores, has_ended)
        self._can_improve = self._can_improve and self._is_improvement_possible()
        is_full = self._beams.early_stopping is True and bool(self._is_finished.all())
        return grown if self._can_improve and not is_full and not has_ended.all() else None

    def best(self, count: int) -> list[Found]:
        """Return the best `count` answers when the search is over."""
        pairs = zip(self._finished, self._finished_scores.tolist(), strict=True)
        return [Found(link, score) for link, score in pairs if link is not None][:count]

    def _candidates(self, drawn: Sequence[Drawn]) -> tuple[list[Link], list[int], Floats]:
        """Return the best candidates of all beams together, the best first."""
        rows = list(drawn) if len(drawn) == len(self._scores) else [drawn[0]] * len(self._scores)
        found: list[tuple[float, int, int, np.float32]] = []
        for parent, (row, running) in enumerate(zip(rows, self._scores, strict=True)):
            spread = row.spread
            assert spread is not None
            sums = spread.scores + running
            keys = sums if spread.noise is None else sums + spread.noise
            found += ((-key, parent, index, sums[index]) for index, key in enumerate(keys.tolist()))
        found.sort(key=lambda one: one[:3])
        best = found[: self.num_candidates]
        links = [self._link(parent, rows[parent], index) for _, parent, index, _ in best]
        return links, [parent for _, parent, _, _ in best], np.array([sums for *_, sums in best], np.float32)

    def _link(self, parent: int, row: Drawn, index: int) -> Link:
        assert row.spread is not None
        logprobs = row.spread.logprobs
        token, before = int(row.spread.ids[index]), self.running[parent]
        logprob = None if logprobs is None else float(logprobs[index])
        return Link(token, before, self._num_tokens + 1, self._ends(parent, token), logprob, row.top)

    def _go_on(
        self, links: list[Link], parents: list[int], scores: Floats, has_ended: NDArray[np.bool_]
    ) -> list[Grown]:
        lowered = scores + has_ended.astype(np.float32) * IMPOSSIBLE
        best = _highest(lowered, len(self._scores))
        self._scores = lowered[best]
        self.running = [links[index] for index in best]
        return [Grown(parents[index], links[index], bool(has_ended[index])) for index in best]

    def _finish(self, links: list[Link], scores: Floats, has_ended: NDArray[np.bool_]) -> None:
        """Take those that ended among the first `num_beams` candidates into the list of answers."""
        counts = has_ended.copy()
        counts[len(self._scores) :] = False
        scores = self._for_length(scores, self._num_tokens)
        if self._beams.early_stopping is True and self._is_finished.all():
            scores += IMPOSSIBLE
        if not self._can_improve:
            scores += IMPOSSIBLE
        scores += (~counts).astype(np.float32) * IMPOSSIBLE
        merged = np.concatenate((self._finished_scores, scores))
        best = _highest(merged, len(self._scores))
        everything = [*self._finished, *links]
        self._finished = [everything[index] for index in best]
        self._finished_scores = merged[best]
        self._is_finished = np.concatenate((self._is_finished, counts))[best]

    def _is_improvement_possible(self) -> bool:
        looks_ahead = self._beams.early_stopping == "never" and self._beams.length_penalty > 0
        length = self._most_tokens if looks_ahead else self._num_tokens
        reachable = self._for_length(self._scores[:1], length)
        worst = np.where(self._is_finished, self._finished_scores.min(), IMPOSSIBLE)
        return bool((reachable > worst).any())

    def _for_length(self, scores: Floats, length: int) -> Floats:
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            return scores / np.float32(np.float64(length) ** self._beams.length_penalty)


def _highest(scores: Floats, count: int) -> list[int]:
    """Return the indexes of the highest scores, the highest first; of equals, the first."""
    order: list[int] = np.argsort(-scores, kind="stable")[:count].tolist()
    return order
