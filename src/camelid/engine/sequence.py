"""One answer being written: its ids, how far they are computed, its pages, and when it ends.

Apart from the scheduler because this is what a sequence is, not when it runs. It knows no other sequence and no tensor.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from camelid.backends.base import PAGE_TOKENS, Draw, SpreadDraw
from camelid.grammar.matcher import Matcher
from camelid.types import FinishReason, Sampling

from .lookup import FIRST_LENGTH, Guesser
from .pages import chain_digest, root_of
from .request import GenerateRequest, Score

if TYPE_CHECKING:
    from .beam_group import BeamGroup


def pages_for(num_tokens: int) -> int:
    """Return how many pages hold `num_tokens` positions."""
    return -(-num_tokens // PAGE_TOKENS)


class Sequence:
    """A choice of a request. One model of progress: while `num_computed` < `num_tokens`, some of the rest is to be
    computed.

    Prompt, chunk, next token and recomputing after a preemption are all the same case of it.
    """

    def __init__(
        self,
        request: GenerateRequest,
        choice: int,
        arrival: int,
        context_length: int,
        most_guessed: int = 0,
        matcher: Matcher | None = None,
        adapter: int = 0,
    ) -> None:
        """Begin a sequence, or take up an answer that was begun; `matcher` is at the beginning of its grammar, and
        `adapter` the number that batches give its adapter.
        """
        self.request = request
        self.choice = choice
        self.adapter = adapter
        self.age = (arrival, choice, False)  # the order of all that is fair: less is older
        self.prompt = array("i", request.prompt)
        answer = request.answers[choice] if request.answers and request.beams is None else ()
        self.ids = array("i", (*request.prompt, *answer))
        self.max_answer = min(request.max_tokens, context_length - len(request.prompt))
        self.num_computed = 0  # positions whose keys and values lie in `pages`
        self.pages: list[int] = []
        self.page_copy: tuple[int, int] | None = None  # from, to; owed by the next step, until then `from` is held too
        self.followers: list[Sequence] = []  # other choices, waiting for this one to compute the prompt they share
        self.is_follower = False
        self.cached_tokens = 0  # prompt tokens that the cache spared; reported with the next token
        self.num_preemptions = 0
        self.is_fetched = False  # what a store has of it was read
        self.num_kept_pages = 0  # of the prompt, that were offered to a store
        self.prompt_scores: list[Score] = []  # of the prompt's tokens from the second on, as far as they are computed
        self._is_scoring = request.scores_prompt and choice == 0 and not answer
        self.digests: list[bytes] = []  # of its full pages, as far as they were asked for
        self.proposal: tuple[int, ...] = ()  # what a draft model says may follow; for one step
        self.was_drafted = False  # the last guess was the draft model's
        self.draft_length = min(FIRST_LENGTH, most_guessed)
        self._most_guessed = most_guessed
        self._guesser = Guesser(most_guessed) if most_guessed else None
        self.matcher = matcher
        self.group: BeamGroup | None = None  # of the search that it is a beam of
        self.guide: Sequence | None = None  # the same answer behind another prompt: both run in the same steps
        self.guided: Sequence | None = None  # whose guide it is
        self.copies_tail = False  # its last page is another beam's, too: it needs one of its own before it goes on
        self.is_over = False  # a beam that has ended and is kept for want of others: nothing counts behind it
        for token in answer if matcher is not None else ():
            self._follow(token)

    @property
    def partner(self) -> Sequence | None:
        """Return the sequence that runs in the same steps: its guide, or the one that it guides."""
        return self.guide or self.guided

    @property
    def num_tokens(self) -> int:
        """Tokens of prompt and answer so far."""
        return len(self.ids)

    @property
    def num_left(self) -> int:
        """Tokens that are still to be computed before one can be drawn."""
        return len(self.ids) - self.num_computed

    @property
    def num_reusable(self) -> int:
        """Positions that may be taken over from others instead of being computed: not those whose scores are wanted."""
        return len(self.prompt_scores) if self.num_to_score else self.num_tokens

    @property
    def num_to_score(self) -> int:
        """Tokens of the prompt whose scores are wanted and not there yet."""
        return len(self.prompt) - 1 - len(self.prompt_scores) if self._is_scoring else 0

    @property
    def fork_point(self) -> int:
        """Positions that all choices share: all but the last prompt token, whose logits each of them needs."""
        return len(self.prompt) - 1

    @property
    def most_pages(self) -> int:
        """Pages that it can come to hold. The last token of an answer is never computed."""
        if self.group is not None:
            return self.group.most_pages if self.group.leader is self else 0
        return pages_for(len(self.prompt) + self.max_answer - 1)

    @property
    def num_places(self) -> int:
        """Sequences that it counts for: the first beam of a search for all of them."""
        if self.group is not None:
            return self.group.num_beams if self.group.leader is self else 0
        return 1

    def digest(self, page: int) -> bytes:
        """Return the digest of the full page `page` of this sequence."""
        while len(self.digests) <= page:
            start = len(self.digests) * PAGE_TOKENS
            parent = self.digests[-1] if self.digests else root_of(self.request.adapter)
            self.digests.append(chain_digest(parent, self.ids[start : start + PAGE_TOKENS].tobytes()))
        return self.digests[page]

    def room_for_guess(self, most: int) -> int:
        """Return how many of `most` tokens may be guessed: its pages hold no more, or the answer may have no more."""
        num_free = len(self.pages) * PAGE_TOKENS - self.num_tokens
        num_left = self.max_answer - (self.num_tokens - len(self.prompt)) - 1
        return max(min(most, self._most_guessed, num_free, num_left), 0)

    def looks_up(self, most: int) -> bool:
        """Return whether the text itself tells what may follow."""
        return bool(self._look_up(most))

    def _look_up(self, most: int) -> tuple[int, ...]:
        return self._guesser.guess(self.ids, self.room_for_guess(most)) if self._guesser is not None else ()

    def guess(self, most: int) -> tuple[int, ...]:
        """Return up to `most` tokens that may follow: by the text itself, else what a draft model proposed."""
        guess = self._look_up(most)
        self.was_drafted = not guess
        if self.was_drafted:
            guess = self.proposal[: self.room_for_guess(most)]
        self.proposal = ()
        return guess if self.matcher is None else guess[: self.matcher.num_allowed(guess)]

    def learn(self, num_guessed: int, num_right: int) -> None:
        """Take in how the last guess went; what was drawn is appended."""
        if self.was_drafted:
            longer = min(2 * self.draft_length, self._most_guessed)
            self.draft_length = longer if num_right == num_guessed else max(num_right, 1)
        elif self._guesser is not None:
            self._guesser.learn(num_guessed, num_right, self.num_tokens)

    def draw_behind(self, guess: tuple[int, ...]) -> Draw:
        """Return what decides the token behind those of `guess`. Raises BadGrammar."""
        return self._draw(guess, None if self.matcher is None else self.matcher.masks(guess)[-1])

    def draws(self, guess: tuple[int, ...] = ()) -> list[Draw]:
        """Return what decides the next token, and the one behind each token of `guess`. Raises BadGrammar."""
        if self.guided is not None:
            return [Draw(Sampling(), self.choice, self.num_tokens, (), (), is_guide=True)]
        if self.matcher is not None and self.is_over:
            return [self._draw(guess, self.matcher.nothing)]
        masks = [None] * (1 + len(guess)) if self.matcher is None else self.matcher.masks(guess)
        return [self._draw(guess[:length], mask) for length, mask in enumerate(masks)]

    def _draw(self, guess: tuple[int, ...], allowed: bytes | None) -> Draw:
        request = self.request
        answer = self.ids[len(self.prompt) :]
        answer.extend(guess)
        return Draw(
            sampling=request.sampling,
            choice=self.choice,
            position=len(self.ids) + len(guess),
            prompt=self.prompt,
            answer=answer,
            banned=request.end_ids if len(answer) < request.min_tokens else frozenset(),
            top_logprobs=request.top_logprobs,
            allowed=allowed,
            rules=request.rules,
            ends=request.end_ids,
            is_last=len(answer) + 1 >= self.max_answer,
            spread=self._spread(),
        )

    def _spread(self) -> SpreadDraw | None:
        group = self.group
        return None if group is None else SpreadDraw(group.num_candidates, group.samples, group.keeps)

    def num_scored(self, start: int, num_tokens: int) -> int:
        """Return how many of the tokens from `start` on tell the score of the one behind them that is wanted."""
        end = min(start + num_tokens, len(self.prompt) - 1)
        return max(0, end - len(self.prompt_scores)) if self._is_scoring else 0

    def score_draws(self, count: int) -> list[Draw]:
        """Return what tells the scores of the next `count` tokens of the prompt: draws of what is there."""
        start = len(self.prompt_scores) + 1
        top = self.request.top_logprobs or 0
        return [
            Draw(Sampling(), self.choice, position, (), (), top_logprobs=top, given=self.prompt[position])
            for position in range(start, start + count)
        ]

    def append(self, token: int) -> FinishReason | None:
        """Add a drawn token; return why the answer ends with it, if it does."""
        self.ids.append(token)
        if token in self.request.end_ids:
            return FinishReason.STOP
        if self._follow(token):
            return FinishReason.STOP
        if len(self.ids) - len(self.prompt) >= self.max_answer:
            return FinishReason.LENGTH
        return None

    def _follow(self, token: int) -> bool:
        """Go on in the grammar, and tell whether nothing can follow any more."""
        if self.matcher is None:
            return False
        self.matcher.take(token)
        return self.matcher.is_finished
