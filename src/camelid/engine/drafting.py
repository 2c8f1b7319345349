"""A draft model: a small model with the same vocabulary guesses what a large one says next.

Like prompt lookup (`lookup.py`) it only proposes: the model computes the guessed tokens beside the real one, and the
first that differs ends the guess, so answers are the same with and without. The draft model draws with the seed and the
position of the token that it guesses: where both models think alike, both draw the same, however random the draw.

It has keys and values of its own, in as many pages as the large model; what it lacks of a sequence it reads in pieces
between the steps. A sequence for which there is no page is not guessed for.
Source: Leviathan et al. 2023; Chen et al. 2023 (speculative sampling), with common random numbers in place of
rejection.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from camelid.backends.base import PAGE_TOKENS, Backend, Batch, Forward
from camelid.errors import BrokenLogits

from .pages import PagePool
from .payoff import Payoff
from .sequence import Sequence, pages_for

READ_TOKENS = 128  # of prompts, in one step: beside it the large model's step is long
MOST_DRAFTED_FOR = 8  # answers at a time; with more, a guessed row costs what it saves

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Draft:
    """A draft model on a backend of its own, whose pages are open."""

    model: Forward
    backend: Backend
    num_pages: int
    context_length: int  # that it was trained for; beyond, it guesses nothing


@dataclass
class _Held:
    """What the draft model has of one sequence. `guess` was made behind the first `start` tokens."""

    pages: list[int] = field(default_factory=list)
    num_computed: int = 0
    num_registered: int = 0  # full pages that can be found
    guess: list[int] = field(default_factory=list)
    start: int = 0


class Drafter:
    """Proposes tokens for the sequences of one engine."""

    def __init__(self, draft: Draft, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._draft = draft
        self._pool = PagePool(draft.num_pages)
        self._held: dict[Sequence, _Held] = {}
        self._payoff = Payoff()
        self._clock_s = clock_s
        self._reading_s = self._drafting_s = 0.0  # before the step that runs
        self._is_broken = False

    @property
    def is_off(self) -> bool:
        """Whether guesses for one answer at a time were found not to pay."""
        return self._is_broken or self._payoff.is_off(1)

    def propose(self, running: Collection[Sequence], decodes: list[Sequence], most: int) -> None:
        """Give the sequences in `decodes` up to `most` tokens each that may follow, if that is worth the time."""
        self._reading_s = self._drafting_s = 0.0
        self._release([sequence for sequence in self._held if sequence not in running])
        if self._is_broken or not 0 < len(decodes) <= MOST_DRAFTED_FOR or not self._payoff.is_worth_it(len(decodes)):
            return
        wanted = [one for one in decodes if one.room_for_guess(most) > 0 and not one.looks_up(most)]
        if not wanted:
            return
        start_s = self._clock_s()
        try:
            drafted = self._read(wanted)
            read_s = self._clock_s()
            self._go_on(drafted, most)
        except BrokenLogits as error:
            _log.error("the draft model is left alone from now on: %s", error)
            self._is_broken = True
            return
        self._reading_s, self._drafting_s = read_s - start_s, self._clock_s() - read_s
        for sequence in drafted:
            sequence.proposal = tuple(self._held[sequence].guess)

    def note(self, num_answers: int, num_tokens: int, was_guessed: bool, step_s: float) -> None:
        """Take in what a step of answers alone took, all told, and what it gave."""
        if was_guessed:
            own_s = step_s - self._reading_s
            self._payoff.note_guessed(num_answers, num_tokens, own_s, self._reading_s)
        elif self._drafting_s == 0.0:
            self._payoff.note_plain(num_answers, step_s - self._reading_s)

    # ── what the draft model computes ──

    def _read(self, sequences: Iterable[Sequence]) -> list[Sequence]:
        """Compute what the draft model lacks, within bounds; return the sequences that have their first guess."""
        left, parts = READ_TOKENS, []
        for sequence in sequences:
            held = self._known(sequence)
            count = min(sequence.num_tokens - held.num_computed, left)
            end = held.num_computed + count
            if count > 0 and end < self._draft.context_length and self._make_room(held, end):
                parts.append(_Part(sequence, held, held.num_computed, sequence.ids[held.num_computed : end].tolist()))
                left -= count
        complete = [part for part in parts if part.end == part.sequence.num_tokens]
        self._run(parts, complete)
        for part in parts:
            part.held.num_computed = part.end
            self._register(part.sequence, part.held)
        return [part.sequence for part in complete]

    def _go_on(self, sequences: list[Sequence], most: int) -> None:
        """Guess further tokens behind the first, one of each sequence at a time."""
        lengths = {one: min(one.draft_length, one.room_for_guess(most)) for one in sequences}
        for number in range(1, max(lengths.values(), default=0)):
            parts = []
            for sequence in [one for one, length in lengths.items() if length > number]:
                held = self._held[sequence]
                end = held.num_computed + 1
                if end < self._draft.context_length and self._make_room(held, end):
                    parts.append(_Part(sequence, held, held.num_computed, held.guess[-1:]))
                else:
                    lengths[sequence] = number
            if not parts:
                return
            self._run(parts, parts)
            for part in parts:
                part.held.num_computed = part.end

    def _run(self, parts: list[_Part], drawn: list[_Part]) -> None:
        """Compute tokens, and draw one behind each part of `drawn`."""
        if not parts:
            return
        logits = self._draft.backend.run(self._draft.model, _to_batch(parts, drawn))
        draws = [replace(part.sequence.draw_behind(tuple(part.held.guess)), top_logprobs=None) for part in drawn]
        tokens = self._draft.backend.sample(logits, draws) if draws else []
        for part, token in zip(drawn, tokens, strict=True):
            part.held.guess.append(token.id)

    # ── what it holds ──

    def _known(self, sequence: Sequence) -> _Held:
        """Return what is held of a sequence, without what was guessed and not said; at least one token is lacking."""
        held = self._held.get(sequence)
        if held is None:
            held = self._held[sequence] = self._found(sequence)
        said = sequence.ids[held.start : held.start + len(held.guess)]
        agreed = next(
            (i for i, pair in enumerate(zip(held.guess, said, strict=False)) if pair[0] != pair[1]), len(said)
        )
        if held.guess:
            held.num_computed = min(held.num_computed, held.start + agreed)
        held.num_computed = min(held.num_computed, sequence.num_tokens - 1)
        held.guess, held.start = [], sequence.num_tokens
        return held

    def _found(self, sequence: Sequence) -> _Held:
        """Return what the cache has of a new sequence."""
        pages: list[int] = []
        for index in range((sequence.num_tokens - 1) // PAGE_TOKENS):
            page = self._pool.find(sequence.digest(index))
            if page is None:
                break
            pages.append(page)
        self._pool.share(pages)
        return _Held(pages, len(pages) * PAGE_TOKENS, len(pages))

    def _make_room(self, held: _Held, num_tokens: int) -> bool:
        count = max(pages_for(num_tokens) - len(held.pages), 0)
        if count > self._pool.num_available:
            return False
        held.pages += self._pool.take(count)
        return True

    def _register(self, sequence: Sequence, held: _Held) -> None:
        """Make full pages findable: none of them will be written again."""
        for index in range(held.num_registered, held.num_computed // PAGE_TOKENS):
            self._pool.register(held.pages[index], sequence.digest(index))
        held.num_registered = max(held.num_registered, held.num_computed // PAGE_TOKENS)

    def _release(self, sequences: Iterable[Sequence]) -> None:
        for sequence in sequences:
            self._pool.give_back(self._held.pop(sequence).pages)


@dataclass(frozen=True)
class _Part:
    """Tokens of a sequence that the draft model computes at once."""

    sequence: Sequence
    held: _Held
    start: int
    ids: list[int]

    @property
    def end(self) -> int:
        return self.start + len(self.ids)


def _to_batch(parts: list[_Part], drawn: list[_Part]) -> Batch:
    ends = np.cumsum([len(part.ids) for part in parts])
    table = np.zeros((len(parts), max(len(part.held.pages) for part in parts)), np.int32)
    for row, part in zip(table, parts, strict=True):
        row[: len(part.held.pages)] = part.held.pages
    return Batch(
        ids=np.array([token for part in parts for token in part.ids], np.int32),
        positions=np.concatenate([np.arange(part.start, part.end, dtype=np.int32) for part in parts]),
        row_starts=np.array([0, *ends], np.int32),
        page_table=table,
        wanted=np.array([end - 1 for part, end in zip(parts, ends, strict=True) if part in drawn], np.int32),
    )
