"""Decides which tokens of which sequences run in the next step, and takes in what came of it.

Continuous batching: every step runs one token of each sequence that is being written (decodes), then goes on with
prompts that are begun, then starts new ones in the order of their arrival, within a budget of tokens that keeps
running answers moving (pace.py). When pages run
out, the youngest sequence gives its pages back and is computed again later. It sees counts and pages: no tensor, no
backend, no text.

Why nobody starves: only a younger sequence is ever preempted for an older one, the oldest never, and one sequence alone
always fits (EngineSettings). A sequence that was preempted MAX_PREEMPTIONS times starts again only when it and all
that is older fit even at their longest; then nothing can preempt it any more.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence as Ordered
from itertools import islice

from camelid.backends.base import PAGE_TOKENS, Drawn

from .beam_group import BeamGroup
from .pace import Pace
from .pages import PagePool
from .plan import Chunk, Plan
from .prefix import Prefix, attach, cached_pages, find_prefix
from .request import Score, Token
from .sequence import Sequence, pages_for
from .settings import EngineSettings

MOST_DRAWS = 16  # of one step where tokens are guessed: beyond, a row costs what it saves
MOST_SCORED = 64  # tokens of a prompt whose scores one step computes: 32 MiB of logits with a vocabulary of 128K
MAX_PREEMPTIONS = 3  # of one sequence; each may cost it a whole prompt computed again


class Scheduler:
    """The sequences that wait and that run. Only `commit` makes progress, so after a failed step `plan` plans anew."""

    def __init__(self, settings: EngineSettings) -> None:
        self.pool = PagePool(settings.num_pages)
        self.waiting: list[Sequence] = []  # the oldest first
        self.running: list[Sequence] = []  # the oldest first
        self.fruitless: list[str] = []  # requests whose search is over and found less than was asked for
        self.is_closed = False  # nothing that waits is started: somebody else waits for pages
        self.num_preemptions = 0
        self.num_reused_tokens = 0  # that the prefix cache spared
        self.num_guessed_tokens = self.num_right_guesses = 0  # of both kinds
        self.num_drafted_tokens = self.num_right_drafts = 0  # of a draft model alone
        self._settings = settings

    @property
    def num_waiting(self) -> int:
        """Sequences that have no place yet, those included that wait for another choice's prompt."""
        hidden = sum(len(leader.followers) for leader in (*self.waiting, *self.running))
        return len(self.waiting) + hidden

    @property
    def _num_places(self) -> int:
        """Places that are taken, those included that a search will need for its beams."""
        return sum(sequence.num_places for sequence in self.running)

    @property
    def next_up(self) -> list[Sequence]:
        """The waiting sequences that may start in the next step, if there is room."""
        return self.waiting[: max(self._settings.max_sequences - len(self.running), 0)]

    @property
    def decodes(self) -> list[Sequence]:
        """The sequences whose next token can be drawn in the next step, their partners with them."""
        return [sequence for sequence in self.running if sequence.num_left == 1 and self._has_company(sequence)]

    def _has_company(self, sequence: Sequence) -> bool:
        partner = sequence.partner
        return partner is None or (partner.num_left == 1 and partner in self.running)

    @property
    def most_guessed(self) -> int:
        """Tokens that may be guessed for each of `decodes` in the next step."""
        count = len(self.decodes)
        budget = max(self._settings.max_batch_tokens - count, 1)
        return min(MOST_DRAWS // count - 1, budget // count) if count else 0

    def add(self, sequences: Ordered[Sequence]) -> None:
        """Queue the choices of one request. The first one computes the prompt, the others fork from it; a guide
        computes its own.
        """
        leader, *leader.followers = sequences
        for follower in leader.followers:
            follower.is_follower = True
        insort(self.waiting, leader, key=_age)
        self._release_followers(leader)
        for guide in [sequence.guide for sequence in sequences if sequence.guide is not None]:
            if guide not in self.waiting and guide not in self.running:
                insort(self.waiting, guide, key=_age)

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence wherever it is, and give its pages back. Its followers go on without it; the beams of its
        search do not, and its guide neither.
        """
        leaders = [other.followers for other in (*self.waiting, *self.running) if other.followers]
        guide = () if sequence.guide is None else (sequence.guide,)
        for member in (*_members(sequence), *guide):
            for group in (self.waiting, self.running, *leaders):
                if member in group:
                    group.remove(member)
            self._give_pages_back(member)
        if sequence.followers:
            self.add(sequence.followers)
            sequence.followers = []

    # ── plan ──

    def plan(self, pace: Pace) -> Plan:
        """Choose what the next step computes, and take the pages that it needs."""
        decodes = self.decodes
        prompts = [sequence for sequence in self.running if sequence.num_left > 1]
        draft = _Draft(max(self._settings.max_batch_tokens - len(decodes), 1))
        most_guessed = self.most_guessed
        for sequence in decodes:
            self._decode(sequence, draft, most_guessed)
        draft.budget = min(draft.budget, pace.prompt_tokens(len(decodes)))
        for sequence in prompts:
            self._continue_prompt(sequence, draft)
        if not (draft.preempted or self.is_closed):  # else a newcomer might be thrown out again at once
            self._admit(draft)
        return draft.plan()

    def _decode(self, sequence: Sequence, draft: _Draft, most_guessed: int) -> None:
        if sequence in draft.preempted or not self._make_room(sequence, 1, draft):
            return
        if sequence.partner not in draft.preempted:
            draft.add(sequence, 1, sequence.guess(most_guessed))

    def _continue_prompt(self, sequence: Sequence, draft: _Draft) -> None:
        if draft.budget == 0 or sequence in draft.preempted:
            return
        self._reuse_pages(sequence)
        num_tokens = min(_next_chunk(sequence), draft.budget)
        if num_tokens > 0 and self._make_room(sequence, num_tokens, draft):
            draft.add_prompt(sequence, num_tokens)

    def _make_room(self, sequence: Sequence, num_tokens: int, draft: _Draft) -> bool:
        """Take the pages for the next tokens, if need be from younger sequences. False if it was preempted itself."""
        num_pages = max(pages_for(sequence.num_computed + num_tokens) - len(sequence.pages), sequence.copies_tail)
        while self.pool.num_available < num_pages and sequence not in draft.preempted:
            self._preempt(self.running[-1], draft)
        if sequence in draft.preempted:
            return False
        pages = self.pool.take(num_pages)
        if sequence.copies_tail:
            sequence.page_copy = (sequence.pages.pop(), pages[0])
            sequence.copies_tail = False
        sequence.pages += pages
        return True

    def _preempt(self, sequence: Sequence, draft: _Draft) -> None:
        for member in _members(sequence):
            draft.drop(member)
            self.running.remove(member)
            self._give_pages_back(member)
        group = sequence.group
        if group is not None:
            sequence = group.leader
            group.restart()
        sequence.num_preemptions += 1
        self.num_preemptions += 1
        insort(self.waiting, sequence, key=_age)

    def _reuse_pages(self, sequence: Sequence) -> None:
        """Take over the next pages of a begun prompt if another sequence has computed the same ones meanwhile."""
        end = min(sequence.num_tokens - 1, sequence.num_reusable)
        pages = cached_pages(sequence, self.pool, end // PAGE_TOKENS)
        if pages and sequence.page_copy is None:
            first = sequence.num_computed // PAGE_TOKENS
            self.pool.share(pages)
            self.pool.give_back(sequence.pages[first:])  # one that is partly computed, if any
            sequence.pages[first:] = pages
            num_computed = (first + len(pages)) * PAGE_TOKENS
            self._count_reused(sequence, num_computed - sequence.num_computed)
            sequence.num_computed = num_computed
            self._release_followers(sequence)

    # ── admission ──

    def _admit(self, draft: _Draft) -> None:
        while self.waiting and draft.budget > 0:
            sequence = self.waiting[0]
            if self._num_places + sequence.num_places > self._settings.max_sequences:
                return
            prefix = self._prefix_that_fits(sequence)
            if prefix is None:
                return
            self.waiting.pop(0)
            insort(self.running, sequence, key=_age)
            if prefix.is_cached:
                self._count_reused(sequence, prefix.num_tokens)
            attach(sequence, prefix, self.pool)
            self._release_followers(sequence)
            self._continue_prompt(sequence, draft)

    def _prefix_that_fits(self, sequence: Sequence) -> Prefix | None:
        """Return what the sequence can take over if it may start now, else None."""
        if sequence.num_preemptions >= MAX_PREEMPTIONS and not self._fits_for_good(sequence):
            return None
        prefix = find_prefix(sequence, self.pool, self.running)
        return prefix if self._fits(sequence, prefix) else None

    def _fits(self, sequence: Sequence, prefix: Prefix) -> bool:
        """Is there room for its tokens, beside what running prompts need and one page for each running sequence?"""
        promised = sum(max(0, pages_for(other.num_tokens) - len(other.pages)) for other in self.running)
        available = self.pool.num_available - self.pool.count_idle(prefix.pages)
        spare = self._num_places + sequence.num_places - 1
        return available >= pages_for(sequence.num_tokens) - prefix.num_shared + promised + spare

    def _fits_for_good(self, sequence: Sequence) -> bool:
        """Is there room for it and for all that is older, whatever they come to hold?"""
        older = [other for other in self.running if other.age < sequence.age]
        forks = [follower for other in older for follower in other.followers]
        return sum(other.most_pages for other in (*older, *forks, sequence)) <= self.pool.num_pages

    # ── commit ──

    def commit(self, plan: Plan, drawn: Ordered[Drawn]) -> list[Token]:
        """Take in what the step computed: full pages can be found, sequences have their tokens, finished ones leave."""
        for chunk in plan.chunks:
            self._settle_copy(chunk.sequence)
            self._advance(chunk.sequence, chunk.num_tokens)
            self._release_followers(chunk.sequence)
        rows = iter(drawn)
        tokens: list[Token] = []
        for chunk in plan.chunks:
            scores = islice(rows, chunk.num_scored)
            chunk.sequence.prompt_scores += [Score(score.logprob or 0.0, score.top) for score in scores]
            if chunk.draws:
                tokens += self._take(chunk, list(islice(rows, chunk.num_draws)))
        return tokens

    def _take_beam(self, sequence: Sequence, group: BeamGroup, drawn: Drawn) -> list[Token]:
        """Let a search take in what was drawn for one of its beams; with the last one it goes on, or is over."""
        num_before = len(group.members)
        answers = group.take(drawn, self.pool)
        for member in group.members[num_before:]:
            insort(self.running, member, key=_age)
        if answers is not None:
            self.remove(sequence)
            if not answers:
                self.fruitless.append(sequence.request.id)
        return answers or []

    def _settle_copy(self, sequence: Sequence) -> None:
        if sequence.page_copy is not None:
            self.pool.give_back(sequence.page_copy[:1])
            sequence.page_copy = None

    def _advance(self, sequence: Sequence, num_tokens: int) -> None:
        """Count the next tokens as computed; pages that are full now can be found."""
        first = sequence.num_computed // PAGE_TOKENS
        sequence.num_computed += num_tokens
        for index in range(first, sequence.num_computed // PAGE_TOKENS):
            self.pool.register(sequence.pages[index], sequence.digest(index))

    def _take(self, chunk: Chunk, drawn: Ordered[Drawn]) -> list[Token]:
        """Append what was drawn, up to and with the first token that was not the guessed one."""
        sequence = chunk.sequence
        if sequence.guided is not None:
            return []  # it was given its token with the one that it guides
        if sequence.group is not None:
            return self._take_beam(sequence, sequence.group, drawn[0])
        tokens = [self._append(sequence, drawn[0])]
        for guess, previous, following in zip(chunk.guess, drawn, drawn[1:], strict=False):
            if tokens[-1].finish is not None or guess != previous.id:
                break
            self._advance(sequence, 1)  # its keys and values lie where they belong
            tokens.append(self._append(sequence, following))
        if chunk.guess:
            sequence.learn(len(chunk.guess), len(tokens) - 1)
            self.num_guessed_tokens += len(chunk.guess)
            self.num_right_guesses += len(tokens) - 1
            if sequence.was_drafted:
                self.num_drafted_tokens += len(chunk.guess)
                self.num_right_drafts += len(tokens) - 1
        return tokens

    def _append(self, sequence: Sequence, drawn: Drawn) -> Token:
        index = sequence.num_tokens - len(sequence.prompt)
        finish = sequence.append(drawn.id)
        if sequence.guide is not None:
            sequence.guide.ids.append(drawn.id)
        if finish is not None:
            self.remove(sequence)
        cached_tokens, sequence.cached_tokens = sequence.cached_tokens, 0
        scores = tuple(sequence.prompt_scores) if index == 0 else ()
        return Token(
            request_id=sequence.request.id,
            choice=sequence.choice,
            index=index,
            id=drawn.id,
            finish=finish,
            logprob=drawn.logprob,
            top=drawn.top,
            cached_tokens=cached_tokens,
            prompt_scores=scores,
        )

    # ── what several of them do ──

    def _release_followers(self, leader: Sequence) -> None:
        """Queue the other choices once the prompt that they share is computed."""
        if leader.num_computed >= leader.fork_point:
            for follower in leader.followers:
                insort(self.waiting, follower, key=_age)
            leader.followers = []

    def _count_reused(self, sequence: Sequence, num_tokens: int) -> None:
        self.num_reused_tokens += num_tokens
        if sequence.num_preemptions == 0 and not sequence.is_follower:
            end = min(sequence.num_computed + num_tokens, len(sequence.prompt))
            sequence.cached_tokens += max(0, end - sequence.num_computed)

    def _give_pages_back(self, sequence: Sequence) -> None:
        if sequence.page_copy is not None:
            self.pool.give_back(sequence.page_copy[:1])
        self.pool.give_back(sequence.pages)
        sequence.page_copy, sequence.pages, sequence.num_computed, sequence.copies_tail = None, [], 0, False


class _Draft:
    """A plan in the making: chunks so far, and how many prompt tokens may still be added."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.preempted: set[Sequence] = set()
        self._chunks: dict[Sequence, Chunk] = {}

    def add(self, sequence: Sequence, num_tokens: int, guess: tuple[int, ...] = ()) -> None:
        start = sequence.num_computed
        draws = start + num_tokens == sequence.num_tokens
        num_scored = sequence.num_scored(start, num_tokens)
        self._chunks[sequence] = Chunk(sequence, start, num_tokens, draws, guess, num_scored)
        self.budget -= len(guess)

    def add_prompt(self, sequence: Sequence, num_tokens: int) -> None:
        self.add(sequence, num_tokens)
        self.budget -= num_tokens

    def drop(self, sequence: Sequence) -> None:
        self._chunks.pop(sequence, None)
        if sequence.partner is not None:
            self._chunks.pop(sequence.partner, None)
        self.preempted.add(sequence)

    def plan(self) -> Plan:
        copies = tuple(sequence.page_copy for sequence in self._chunks if sequence.page_copy is not None)
        return Plan(tuple(self._chunks.values()), copies)


def _next_chunk(sequence: Sequence) -> int:
    """Return how many tokens may follow at once: a leader stops where its followers fork off, scores cost logits.

    One that has a guide, or is one, computes its last token when its partner does.
    """
    end = sequence.num_tokens - (sequence.partner is not None)
    if sequence.followers:
        end = sequence.fork_point
    num_tokens = end - sequence.num_computed
    return min(num_tokens, MOST_SCORED) if sequence.num_to_score else num_tokens


def _members(sequence: Sequence) -> list[Sequence]:
    """Return the beams of a sequence's search, or the sequence alone."""
    return [sequence] if sequence.group is None else list(sequence.group.members)


def _age(sequence: Sequence) -> tuple[int, int, bool]:
    return sequence.age
