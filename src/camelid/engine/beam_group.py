"""The sequences of one search with beams: they run in step, share the pages of what they have in common, and become one
another's continuations.

Apart from the search because this is about what lies in pages, and from the scheduler because this is about one
request. At first there is one sequence, which computes the prompt; it forks when its first candidates are there. A
group that has to give its pages back begins again from the prompt: the search is a function of the request, so it comes
to the same answers.
"""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Callable
from collections.abc import Sequence as Ordered
from dataclasses import dataclass

from camelid.backends.base import PAGE_TOKENS, Drawn
from camelid.grammar.matcher import Matcher
from camelid.rules import Beams
from camelid.types import FinishReason

from .beams import BeamSearch, Found, Grown
from .pages import PagePool
from .request import Token
from .sequence import Sequence, pages_for


@dataclass(frozen=True, slots=True)
class _State:
    """All that a continuation takes over from the beam that it continues."""

    ids: array[int]
    digests: list[bytes]
    pages: list[int]
    num_computed: int
    matcher: Matcher | None

    @classmethod
    def of(cls, sequence: Sequence) -> _State:
        return cls(sequence.ids, sequence.digests, sequence.pages, sequence.num_computed, sequence.matcher)


class BeamGroup:
    """A search and its sequences, the leader first. `pieces` are the bytes of each token, where stops are asked for.

    From its making on its time runs, if it has a limit.
    """

    def __init__(
        self,
        leader: Sequence,
        beams: Beams,
        context_length: int,
        pieces: Ordered[bytes] = (),
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.leader = leader
        self.members = [leader]
        self.num_beams = beams.num_beams
        self._beams = beams
        self._context_length = context_length
        self._pieces = pieces
        self._matcher = None if leader.matcher is None else leader.matcher.copy()
        self._longest_stop = max(map(len, leader.request.stops), default=0)
        self._clock_s = clock_s
        most_s = leader.request.max_seconds
        self._deadline_s = math.inf if most_s is None else clock_s() + most_s
        self._drawn: list[Drawn] = []
        self._search = self._new_search()
        leader.group = self

    @property
    def most_pages(self) -> int:
        """Pages that all members can come to hold: those of the prompt that are full are shared."""
        return most_pages(len(self.leader.prompt), self.leader.max_answer, self.num_beams)

    @property
    def num_candidates(self) -> int:
        """Tokens that each row is asked for."""
        return self._search.num_candidates

    @property
    def keeps(self) -> int:
        """Tokens that filters leave at least: enough to go on with when all end tokens are among them."""
        return self.num_candidates // self.num_beams

    @property
    def samples(self) -> bool:
        """Whether candidates are drawn."""
        return self._beams.samples

    def take(self, drawn: Drawn, pool: PagePool) -> list[Token] | None:
        """Take in the candidates of the next member; with those of the last one, go on.

        Return the answers when the search is over, none if there are fewer than were asked for; else None.
        """
        self._drawn.append(drawn)
        if len(self._drawn) < len(self.members):
            return None
        rows, self._drawn = self._drawn, []
        is_late = self._deadline_s < math.inf and self._clock_s() > self._deadline_s
        grown = self._search.take(rows, is_last=is_late)
        if grown is None:
            return self._answers()
        self._go_on(grown, pool)
        return None

    def restart(self) -> None:
        """Begin again from the prompt. The members have given their pages back."""
        self.members = [self.leader]
        self._drawn = []
        self._search = self._new_search()
        leader = self.leader
        leader.ids = array("i", leader.prompt)
        leader.digests = leader.digests[: len(leader.prompt) // PAGE_TOKENS]
        leader.matcher = None if self._matcher is None else self._matcher.copy()
        leader.is_over = False

    def _new_search(self) -> BeamSearch:
        request = self.leader.request
        return BeamSearch(self._beams, len(request.end_ids), self.leader.max_answer, self._ends)

    def _ends(self, parent: int, token: int) -> bool:
        """Tell whether a token ends the answer that a member holds."""
        member = self.members[min(parent, len(self.members) - 1)]
        if token in member.request.end_ids:
            return True
        if member.matcher is not None and not member.is_over:
            matcher = member.matcher.copy()
            matcher.take(token)
            if matcher.is_finished:
                return True
        return bool(self._longest_stop) and self._completes_stop(member, token)

    def _completes_stop(self, member: Sequence, token: int) -> bool:
        """Tell whether a stop string ends inside this token, wherever it began."""
        last = self._pieces[token]
        before = b""
        for id_ in reversed(member.ids):
            if len(before) >= self._longest_stop:
                break
            before = self._pieces[id_] + before
        text = before + last
        return any(text.find(stop, max(len(before) - len(stop) + 1, 0)) >= 0 for stop in member.request.stops)

    def _go_on(self, grown: list[Grown], pool: PagePool) -> None:
        """Make the members what the search has chosen. Pages are shared; a page that is partly full has one owner, who
        goes on writing to it, and is copied for the others.
        """
        states = [_State.of(member) for member in self.members]
        old_pages = [member.pages for member in self.members]
        self._fork(len(grown))
        owned: set[int] = set()
        for member, one in zip(self.members, grown, strict=True):
            parent = min(one.parent, len(states) - 1)
            pool.share(states[parent].pages)
            self._become(member, states[parent], one)
            member.copies_tail = parent in owned and member.num_computed % PAGE_TOKENS != 0
            owned.add(parent)
        for pages in old_pages:
            pool.give_back(pages)

    def _fork(self, count: int) -> None:
        """Add the members that are missing at the beginning."""
        leader = self.leader
        for choice in range(len(self.members), count):
            member = Sequence(leader.request, choice, leader.age[0], self._context_length, adapter=leader.adapter)
            member.group = self
            member.num_kept_pages = leader.num_kept_pages
            self.members.append(member)

    def _become(self, member: Sequence, state: _State, grown: Grown) -> None:
        member.ids = array("i", state.ids)
        member.ids.append(grown.link.token)
        member.digests = list(state.digests)
        member.pages = list(state.pages)
        member.num_computed = state.num_computed
        member.is_over = grown.is_over
        member.matcher = None if state.matcher is None else state.matcher.copy()
        if member.matcher is not None and not grown.is_over:
            member.matcher.take(grown.link.token)

    def _answers(self) -> list[Token]:
        count = self.leader.request.num_choices
        found = self._search.best(count)
        if len(found) < count:
            return []
        return [token for choice, one in enumerate(found) for token in self._tokens(choice, one)]

    def _tokens(self, choice: int, found: Found) -> list[Token]:
        leader, links = self.leader, found.link.path()
        finish = FinishReason.STOP if found.link.is_end else FinishReason.LENGTH
        tells = choice == 0
        return [
            Token(
                leader.request.id,
                choice,
                index,
                link.token,
                finish if link is found.link else None,
                link.logprob,
                link.top,
                cached_tokens=leader.cached_tokens if tells and index == 0 else 0,
                prompt_scores=tuple(leader.prompt_scores) if tells and index == 0 else (),
                score=found.score,
            )
            for index, link in enumerate(links)
        ]


def most_answer(num_prompt: int, num_beams: int, num_pages: int) -> int:
    """Return how long the answers of a search may be, if they are to fit into `num_pages`; below 1 there is no room."""
    room = (num_pages - num_prompt // PAGE_TOKENS) // num_beams * PAGE_TOKENS
    return room - num_prompt % PAGE_TOKENS + 1


def most_pages(num_prompt: int, max_answer: int, num_beams: int) -> int:
    """Return how many pages a search can come to hold. The last token of an answer is never computed."""
    shared = num_prompt // PAGE_TOKENS
    return shared + num_beams * (pages_for(num_prompt + max_answer - 1) - shared)
