"""One answer under a grammar: which tokens may come next, and whether it is complete.

Its state is a function of the ids taken so far and of nothing else. So it can be made again from the ids of a journal,
and a sequence that is put off keeps it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from camelid.errors import BadGrammar

if TYPE_CHECKING:
    from llguidance import LLMatcher


class Matcher:
    """The place in a grammar that one sequence has come to."""

    def __init__(self, state: LLMatcher, num_tokens: int, end_ids: frozenset[int]) -> None:
        self._state = state
        self._num_tokens = num_tokens
        self._end_ids = end_ids
        # The library's own `compute_bitmask` spends 50 µs on putting the bytes of its result together.
        self._words = np.zeros(-(-num_tokens // 32), "<u4")
        self._address = self._words.ctypes.data

    @property
    def is_finished(self) -> bool:
        """True when nothing can follow: the answer is complete."""
        return self._state.is_stopped() and not self._state.is_error()

    @property
    def nothing(self) -> bytes:
        """The mask that lets no token come."""
        return bytes(self._words.nbytes)

    def copy(self) -> Matcher:
        """Return a matcher at the same place, which goes its own way."""
        return Matcher(self._state.deep_copy(), self._num_tokens, self._end_ids)

    def take(self, token: int) -> None:
        """Go on by one token. One that may not come here is an error that the next `masks` raises: a step of an engine
        takes all its tokens or none.
        """
        self._state.consume_token(token)

    def num_allowed(self, ids: Sequence[int]) -> int:
        """Return how many of the tokens `ids` may follow, one after the other."""
        return self._state.validate_tokens(list(ids))

    def masks(self, guess: Sequence[int] = ()) -> list[bytes | None]:
        """Return what may come next, and what may come behind each token of `guess`: bit i % 8 of byte i // 8 for id i.

        None stands behind a token that may not come or that ends the answer. Raises BadGrammar over the library's
        limits.
        """
        found: list[bytes | None] = [self._mask()]
        num_taken = 0
        for token in guess[: self.num_allowed(guess)]:
            if token in self._end_ids or self._state.is_stopped():
                break
            self.take(token)
            num_taken += 1
            found.append(None if self._state.is_stopped() else self._mask())
        if num_taken and not self._state.rollback(num_taken):
            raise self._error()
        return found + [None] * (1 + len(guess) - len(found))

    def _mask(self) -> bytes:
        self._state.unsafe_compute_mask_ptr(self._address, self._words.nbytes)
        if self._state.is_error():
            raise self._error()
        return self._words.tobytes()

    def _error(self) -> BadGrammar:
        text = " ".join(self._state.get_error().split())[:300] or "no token may follow"
        return BadGrammar(f"the answer cannot be kept to its grammar: {text}")
