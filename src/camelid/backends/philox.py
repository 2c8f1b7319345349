"""A counter-based random generator: a draw needs no state, so a broken stream goes on with the same draws.

Plain integers, because one draw per generated token is mostly all that is asked of it; a search with beams that samples
asks for one for each token of the vocabulary, which numpy's generator of the same family makes.
Source: Salmon, Moraes, Dror and Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3
(Philox-4x32-10).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)  # the golden ratio and sqrt(3) − 1, as 32-bit fractions
WORD = 0xFFFFFFFF

Words4 = tuple[int, int, int, int]


def philox_4x32(counter: Words4, key: tuple[int, int]) -> Words4:
    """Return the four 32-bit words that `key` (two 32-bit words) gives for `counter` (four)."""
    a, b, c, d = counter
    first, second = key
    for _ in range(ROUNDS):
        left, right = a * MULTIPLIERS[0], c * MULTIPLIERS[1]
        a, b, c, d = (right >> 32) ^ b ^ first, right & WORD, (left >> 32) ^ d ^ second, left & WORD
        first, second = (first + KEY_STEPS[0]) & WORD, (second + KEY_STEPS[1]) & WORD
    return a, b, c, d


def uniform(seed: int, position: int, choice: int) -> float:
    """Return the number in [0, 1), a multiple of 2⁻⁵³, of one position of one choice under a 64-bit seed."""
    high, low, _, _ = philox_4x32((position & WORD, choice & WORD, 0, 0), (seed & WORD, seed >> 32))
    return float((high << 32 | low) >> 11) * 2.0**-53


def uniforms(seed: int, position: int, choice: int, count: int) -> NDArray[np.float64]:
    """Return `count` numbers in (0, 1) of one position of one choice under a 64-bit seed (Philox-4x64-10)."""
    generator = np.random.Philox(counter=[0, position, 0, 0], key=[seed, choice])
    bits = np.asarray(generator.random_raw(count), np.uint64)
    return ((bits >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
