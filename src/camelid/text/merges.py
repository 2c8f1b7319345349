"""Merge rules for vocabularies that come without any: Meta's (ranks only) and SentencePiece's (scores only).

Both merge whichever neighbours make the token of the best rank. The `tokenizers` library wants the pairs written out:
for each token every way of cutting it into two other tokens, best token first. With 128,000 tokens that is 280,000
pairs out of 700,000 cuts; looked up one by one in Python they take over a second, hashed all at once in numpy a
quarter of that.

Separate because it is arithmetic on bytes that knows neither files nor the library.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from camelid.errors import BadVocabulary

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]
    Indices = NDArray[np.int64]

_MODULUS = 2**64
_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse; the golden ratio's bits
_TABLE_BITS = 21  # 2 million slots: few of 128,000 tokens share one


def cuts_of(tokens: Sequence[bytes]) -> tuple[list[int], list[int]]:
    """Return every cut of a token into two tokens, as the indices of the left parts and of the right parts.

    tokens: in the order of their rank, best first. The cuts come in that order of the whole token, then of the left
    part. Raises BadVocabulary when a token is empty or occurs twice.
    """
    import numpy as np

    if len(set(tokens)) != len(tokens) or b"" in tokens:
        raise BadVocabulary("the vocabulary holds an empty token, or the same token twice")
    lengths = np.fromiter(map(len, tokens), np.int64, len(tokens))
    ends = np.cumsum(lengths)
    starts = ends - lengths
    spans = _Spans(b"".join(tokens))
    table = _Table(spans.hashes(starts, ends))

    owners = np.repeat(np.arange(len(tokens)), lengths)
    positions = np.arange(len(owners))
    inner = positions != starts[owners]
    owners, positions = owners[inner], positions[inner]
    lefts = table.find(spans.hashes(starts[owners], positions))
    found = lefts >= 0
    owners, positions, lefts = owners[found], positions[found], lefts[found]
    rights = table.find(spans.hashes(positions, ends[owners]))
    found = rights >= 0
    order = np.argsort((owners[found] * len(tokens)) + lefts[found], kind="stable")
    return lefts[found][order].tolist(), rights[found][order].tolist()


class _Spans:
    """Hashes of any span of one byte string, in constant time each: a polynomial in _BASE over random byte values."""

    def __init__(self, data: bytes) -> None:
        import numpy as np

        values = np.random.default_rng(0).integers(1, _MODULUS, 256, dtype=np.uint64)[np.frombuffer(data, np.uint8)]
        self._inverse = _powers(pow(_BASE, -1, _MODULUS), len(data) + 1)
        self._sums = np.zeros(len(data) + 1, np.uint64)
        np.cumsum(values * _powers(_BASE, len(data)), out=self._sums[1:])

    def hashes(self, starts: Indices, ends: Indices) -> Hashes:
        """Hash the spans [start, end): equal bytes give equal hashes wherever they lie."""
        return (self._sums[ends] - self._sums[starts]) * self._inverse[starts]


class _Table:
    """A hash table over distinct 64-bit hashes. What finds its slot taken goes to a further table, by other bits."""

    def __init__(self, hashes: Hashes) -> None:
        import numpy as np

        self._hashes = hashes
        self._levels: list[NDArray[np.int32]] = []
        rest = np.arange(len(hashes))
        while len(rest):
            level = np.full(1 << _TABLE_BITS, -1, np.int32)
            slots = self._slots(hashes[rest])
            level[slots] = rest
            self._levels.append(level)
            rest = rest[level[slots] != rest]
            if len(self._levels) == 4 and len(rest):  # the four levels use up all 64 bits: two tokens share a hash
                raise BadVocabulary("two tokens of the vocabulary cannot be told apart by their 64-bit hash")

    def find(self, wanted: Hashes) -> Indices:
        """Return the index of each wanted hash, -1 where it is not in the table."""
        import numpy as np

        found = np.full(len(wanted), -1, np.int64)
        rest = np.arange(len(wanted))
        for number, level in enumerate(self._levels):
            candidates = level[self._slots(wanted[rest], number)]
            hit = (candidates >= 0) & (self._hashes[candidates] == wanted[rest])
            found[rest[hit]] = candidates[hit]
            rest = rest[(candidates >= 0) & ~hit]
        return found

    def _slots(self, hashes: Hashes, number: int | None = None) -> Hashes:
        import numpy as np

        shift = (len(self._levels) if number is None else number) * 14  # 14, 28 and 42 + 21 bits stay within 64
        mask = np.uint64((1 << _TABLE_BITS) - 1)
        return (hashes >> np.uint64(shift)) & mask


def _powers(base: int, count: int) -> Hashes:
    import numpy as np

    powers = np.full(count, base % _MODULUS, np.uint64)
    powers[:1] = 1
    return np.multiply.accumulate(powers)
