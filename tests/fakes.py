"""Fakes of the rooms below the engine: small, exact, and quick to notice a mistake.

`FakeBackend` is a backend whose "model" is a hash. What it writes to a page depends on all tokens before, and the
logits depend on all that the page table leads to. So a page that is given to two sequences, read after it was given
away, not copied or copied too late changes the answer; and what no correct engine can ask for is an error at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from camelid.backends.base import (
    PAGE_TOKENS,
    Array,
    AttentionSpec,
    Batch,
    CacheType,
    Draw,
    Drawn,
    Forward,
    LowRank,
    Memory,
    Ops,
    Tensor,
    Vector,
    Weight,
)
from camelid.backends.sampling import sample

MASK = 2**64 - 1


class FakeModel:
    """A model that has nothing: the fake backend computes without it."""

    def forward(self, ops: Ops, batch: Batch) -> Array:
        raise NotImplementedError("the fake backend does not run models")


@dataclass
class FakeBackend:
    """A backend of `num_pages` pages and a vocabulary of hashes. `failures` are raised by the next calls of `run`."""

    num_pages: int
    vocabulary_size: int = 48
    batches: list[Batch] = field(default_factory=list)  # the last one only, unless `keeps_batches`
    keeps_batches: bool = False
    failures: list[Exception] = field(default_factory=list)
    broken_after: frozenset[int] = frozenset()  # ids behind which all logits are NaN
    name: str = "fake"

    def __post_init__(self) -> None:
        random = np.random.default_rng(0)  # what an unwritten page holds
        self._cells = random.integers(0, 2**64, (self.num_pages, PAGE_TOKENS), np.uint64)

    def run(self, model: Forward, batch: Batch) -> Array:
        """Write the new tokens' cells and return the logits of the wanted rows."""
        check_batch(batch, self.num_pages)
        self.batches = [*self.batches, batch] if self.keeps_batches else [batch]
        for source, target in batch.page_copies:
            self._cells[target] = self._cells[source]
        sums = [total for row in range(len(batch.row_starts) - 1) for total in self._compute(batch, row)]
        if self.failures:
            raise self.failures.pop(0)
        rows = [self._logits(sums[index], int(batch.ids[index])) for index in batch.wanted]
        return np.array(rows, np.float32).reshape(len(batch.wanted), self.vocabulary_size)

    def read_page(self, page: int) -> NDArray[np.uint8]:
        """Return a copy of a page."""
        return self._cells[page].copy().view(np.uint8)

    def write_page(self, page: int, content: NDArray[np.uint8]) -> None:
        """Overwrite a page."""
        self._cells[page] = content.view(np.uint64)

    def sample(self, logits: Array, draws: Sequence[Draw]) -> list[Drawn]:
        """Draw with the real host sampler."""
        return sample(logits, draws)

    def _compute(self, batch: Batch, row: int) -> list[int]:
        """Write the cells of one sequence's new tokens; return the sum over all cells up to each of them."""
        start, end = int(batch.row_starts[row]), int(batch.row_starts[row + 1])
        first = int(batch.positions[start])
        table = batch.page_table[row]
        adapter = 0 if batch.adapters is None else int(batch.adapters[row]) << 20
        before = np.arange(first)
        total = int(self._cells[table[before // PAGE_TOKENS], before % PAGE_TOKENS].sum(dtype=np.uint64))
        totals = []
        for position, token in enumerate(batch.ids[start:end].tolist(), first):
            cell = mixed(total ^ mixed(token << 32 | position) ^ adapter)
            self._cells[table[position // PAGE_TOKENS], position % PAGE_TOKENS] = cell
            total = (total + cell) & MASK
            totals.append(total)
        return totals

    def _logits(self, total: int, token: int) -> NDArray[np.float32]:
        if token in self.broken_after:
            return np.full(self.vocabulary_size, np.nan, np.float32)
        return logits_of(total, self.vocabulary_size)

    def place(self, tensor: Tensor) -> Weight:
        raise NotImplementedError

    def place_vector(self, values: NDArray[np.float32]) -> Vector:
        raise NotImplementedError

    def place_low_rank(self, down: NDArray[np.floating], up: NDArray[np.floating], scale: float) -> LowRank:
        raise NotImplementedError

    def page_bytes(self, attention: AttentionSpec, cache_type: CacheType) -> int:
        raise NotImplementedError

    def open_pages(self, attention: AttentionSpec, cache_type: CacheType, num_pages: int) -> None:
        raise NotImplementedError

    def memory(self) -> Memory:
        raise NotImplementedError


@dataclass
class FakeHistory:
    """The fake model without batches, chunks and pages: the twin of FakeBackend.run."""

    num_tokens: int = 0
    total: int = 0

    def extend(self, ids: Sequence[int]) -> None:
        """Take in the next tokens."""
        for position, token in enumerate(ids, self.num_tokens):
            self.total = (self.total + mixed(self.total ^ mixed(token << 32 | position))) & MASK
        self.num_tokens += len(ids)


def mixed(value: int) -> int:
    """Return 64 well-mixed bits. Source: Steele, Lea and Flood 2014 (SplitMix64)."""
    value = (value + 0x9E3779B97F4A7C15) & MASK
    value = ((value ^ value >> 30) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ value >> 27) * 0x94D049BB133111EB) & MASK
    return value ^ value >> 31


def logits_of(total: int, vocabulary_size: int) -> NDArray[np.float32]:
    """Return logits from −4 to 4 in steps of 1/4, so that equal ones occur."""
    numbers = np.arange(vocabulary_size, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) ^ np.uint64(total)
    numbers = (numbers ^ numbers >> np.uint64(29)) * np.uint64(0xBF58476D1CE4E5B9)
    return ((numbers >> np.uint64(32)) % np.uint64(33)).astype(np.float32) / 4 - 4


def check_batch(batch: Batch, num_pages: int) -> None:
    """Raise AssertionError if the batch breaks a promise of `backends.base.Batch`."""
    num_rows = len(batch.row_starts) - 1
    assert batch.row_starts[0] == 0
    assert batch.row_starts[-1] == len(batch.ids) == len(batch.positions)
    assert np.all(np.diff(batch.row_starts) > 0)
    assert len(batch.page_table) == num_rows
    assert np.all(np.diff(batch.wanted) > 0)
    assert np.all((batch.wanted >= 0) & (batch.wanted < len(batch.ids)))
    written: set[int] = set()
    read: set[int] = set()
    for row in range(num_rows):
        positions = batch.positions[batch.row_starts[row] : batch.row_starts[row + 1]]
        assert np.all(np.diff(positions) == 1)
        first, last = int(positions[0]) // PAGE_TOKENS, int(positions[-1]) // PAGE_TOKENS
        pages = batch.page_table[row, : last + 1].tolist()
        assert len(set(pages)) == len(pages)
        assert all(0 <= page < num_pages for page in pages)
        assert written.isdisjoint(pages[first:]), "two sequences write to one page"
        written.update(pages[first:])
        read.update(pages[:first])
    assert written.isdisjoint(read), "a sequence writes to a page that another one reads"
    sources, targets = set(batch.page_copies[:, 0].tolist()), batch.page_copies[:, 1].tolist()
    assert len(set(targets)) == len(targets)
    assert sources.isdisjoint(targets)
    assert set(targets) <= written
