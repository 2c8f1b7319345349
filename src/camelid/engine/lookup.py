"""Guesses how a sequence goes on, by what followed when its last tokens occurred before: prompt lookup decoding.

Apart from the scheduler because a guess is only a wish: the model computes the guessed tokens beside the real one, each
is drawn as it would have been alone, and the first that differs ends the guess. So answers are the same with and
without, and all that is at stake is time. That is what `Guesser` looks after: it guesses more while it is right and
pauses for longer and longer while it is wrong.

Source: Saxena 2023 (prompt lookup decoding); Leviathan et al. 2023 (verifying several tokens in one step).
"""

from __future__ import annotations

from array import array

NGRAM = 3  # tokens that must agree: two agree by chance too often
LOOKBACK = 16384  # tokens before the first guess that are searched: bounds the memory and the pause for a long prompt
FIRST_LENGTH = 3
FIRST_PAUSE, LONGEST_PAUSE = 4, 256  # tokens without a guess after a wrong one; doubles from one to the next


class Guesser:
    """Guesses for one sequence. `most` tokens are guessed at a time: more rows than that cost a step too much."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._length = min(FIRST_LENGTH, most)
        self._pause = FIRST_PAUSE
        self._resume_at = 0  # no guess before the sequence has so many tokens
        self._follows: dict[tuple[int, ...], int] = {}  # an n-gram → the position behind its last occurrence
        self._num_indexed = 0  # positions that `_follows` knows
        self._source: int | None = None  # where the token behind the last right guess was copied from

    def guess(self, ids: array[int], most: int) -> tuple[int, ...]:
        """Return up to `most` tokens that may follow `ids`; the ids only ever grow between calls."""
        self._index(ids)
        num_tokens = min(self._length, self._most, most)
        if num_tokens < 1 or len(ids) < self._resume_at:
            return ()
        if self._source is None or ids[self._source - 1] != ids[-1]:
            self._source = self._follows.get(tuple(ids[-NGRAM:]))
        if self._source is None:
            return ()
        guess = ids[self._source : self._source + num_tokens]
        while len(guess) < num_tokens:  # the occurrence reaches up to the end: the text repeats itself
            guess.append(guess[len(guess) - (len(ids) - self._source)])
        return tuple(guess)

    def learn(self, num_guessed: int, num_right: int, num_tokens: int) -> None:
        """Take in how the last guess went; the sequence now has `num_tokens` tokens, all that were drawn included."""
        if num_guessed == num_right:
            self._length = min(2 * self._length, self._most)
            # The token drawn behind the guess was not guessed; where it was copied from is the place to go on.
            self._source = None if self._source is None else self._source + num_right + 1
        else:
            self._length = max(num_right, 1)
            self._source = None
        if num_right:
            self._pause = FIRST_PAUSE
        else:
            self._resume_at = num_tokens + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _index(self, ids: array[int]) -> None:
        """Learn the n-grams that something follows, the later occurrence in place of the earlier."""
        first = self._num_indexed or max(NGRAM, len(ids) - LOOKBACK)
        for end in range(first, len(ids)):
            self._follows[tuple(ids[end - NGRAM : end])] = end
        self._num_indexed = max(first, len(ids))
